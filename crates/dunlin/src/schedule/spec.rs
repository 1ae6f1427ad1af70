//! What a user says of scheduling, and what is made of it for a number of variables and lanes.

use crate::{Error, Result};
use std::fmt::{Display, Formatter};
use std::ops::Range;

/// Which variables are updated next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// All at once, in every round.
    All,
    /// One after the other, in their order.
    RoundRobin,
    /// Drawn anew in each round, all alike.
    Random,
    /// Drawn in proportion to how much they changed last: p(j) ∝ |δβ_j| + η.
    Priority,
    /// The same, and only such as hardly depend on each other.
    Dependency,
    /// Those that are not zero or moved, again and again; now and then all. Only such as hardly depend on each other.
    WorkingSet,
}

impl Policy {
    /// All of them.
    pub const ALL: [Policy; 6] = [
        Policy::All,
        Policy::RoundRobin,
        Policy::Random,
        Policy::Priority,
        Policy::Dependency,
        Policy::WorkingSet,
    ];

    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Policy::All => "all",
            Policy::RoundRobin => "roundrobin",
            Policy::Random => "random",
            Policy::Priority => "priority",
            Policy::Dependency => "dependency",
            Policy::WorkingSet => "workingset",
        }
    }
}

/// How variables are scheduled, as a user says it: `POLICY,want=32,depth=1,shards=1,theta=0.1,eta=0.2`. What is left
/// out is chosen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Schedule {
    /// Which variables are next.
    pub policy: Option<Policy>,
    /// Variables a round.
    pub want: Option<u32>,
    /// Rounds that are on their way at a time.
    pub depth: Option<u32>,
    /// Schedulers that each own a slice of the variables and take turns.
    pub shards: Option<u32>,
    /// Two variables of a round are correlated by less than this many millionths.
    pub theta: Option<u32>,
    /// η in millionths of the mean of |δβ|.
    pub eta: Option<u32>,
}

const MILLION: f64 = 1e6;

/// The most variables a round where they are chosen.
const MOST_WANTED: u32 = 4096;

impl Schedule {
    /// What `text`, behind `scheduled:`, says.
    ///
    /// # Errors
    /// [`Error::Usage`] with what is wrong with it, to go behind the strategy's name.
    pub(crate) fn parse(text: &str) -> Result<Schedule> {
        let mut schedule = Schedule::default();
        for (place, part) in text.split(',').enumerate() {
            match part.split_once('=') {
                Some((key, value)) => schedule.set(key, value)?,
                None if place == 0 => schedule.policy = Some(policy(part)?),
                None => return Err(Error::Usage(format!("\"{part}\"; behind the policy come {OPTIONS}"))),
            }
        }
        Ok(schedule)
    }

    fn set(&mut self, key: &str, value: &str) -> Result<()> {
        let refuse = |allowed: &str| Error::Usage(format!("\"{key}={value}\"; {allowed}"));
        let whole = |allowed: Range<u32>, words: &str| {
            let number = value.parse().ok().filter(|number| allowed.contains(number));
            number.map(Some).ok_or_else(|| refuse(words))
        };
        let real = |least: f64, words: &str| {
            let number = value.parse().ok().filter(|number: &f64| (least..=1.0).contains(number));
            number.map(|number| Some((number * MILLION).round() as u32)).ok_or_else(|| refuse(words))
        };
        match key {
            "want" => self.want = whole(1..MOST_WANTED + 1, "variables a round, from 1 to 4096")?,
            "depth" => self.depth = whole(1..17, "rounds on their way at a time, from 1 to 16")?,
            "shards" => self.shards = whole(1..65, "slices of the variables, from 1 to 64")?,
            "theta" => self.theta = real(1e-6, "the correlation to stay below, above 0; 1 looks at none")?,
            "eta" => self.eta = real(0.0, "in units of the mean change, from 0 to 1")?,
            _ => {
                let near = crate::model::did_you_mean(key, &["want", "depth", "shards", "theta", "eta"]);
                return Err(Error::Usage(format!("no option {key}{near}; there is {OPTIONS}")));
            }
        }
        Ok(())
    }

    /// What it means for `variables` variables and `lanes` lanes.
    ///
    /// # Errors
    /// [`Error::Usage`] if there are too few variables for it.
    ///
    /// # Examples
    /// ```
    /// use dunlin::strategy::StrategySpec;
    /// let StrategySpec::Scheduled(schedule) = "scheduled:dependency,want=8".parse().unwrap() else { panic!() };
    /// let plan = schedule.resolve(100, 2).unwrap();
    /// assert_eq!((plan.want, plan.candidates, plan.theta), (8, 12, Some(0.1)));
    /// assert_eq!(plan.clocks_per_epoch(), 14, "13 rounds of 8, and one that looks at the first candidates only");
    /// assert_eq!(schedule.resolve(100, 1).unwrap().theta, None, "one after the other: nothing to look out for");
    /// ```
    pub fn resolve(&self, variables: usize, lanes: usize) -> Result<Plan> {
        let policy = self.policy.unwrap_or(Policy::Dependency);
        let (depth, shards) = (self.depth.unwrap_or(1) as usize, self.shards.unwrap_or(1) as usize);
        let slice = variables / shards;
        let alone = lanes == 1;
        if slice < depth + 1 || (policy == Policy::All && (depth > 1 || shards > 1)) {
            let why = match policy {
                Policy::All => "all variables at once leave none for a second round or shard",
                _ => "every shard needs more variables than rounds are on their way",
            };
            return Err(Error::Usage(format!(
                "--strategy scheduled:{self}: {variables} variables, {shards} shards, depth {depth}; {why}"
            )));
        }
        let checked = matches!(policy, Policy::Dependency | Policy::WorkingSet) || self.theta.is_some();
        let theta = f64::from(self.theta.unwrap_or(100_000)) / MILLION;
        let theta = Some(theta).filter(|theta| checked && *theta < 1.0 && !alone && policy != Policy::All);
        let want = match policy {
            Policy::All => variables,
            _ => (self.want.unwrap_or(32) as usize).min(slice / (depth + 1)),
        };
        let candidates = if theta.is_some() { (want + want / 2).min(slice / (depth + 1)) } else { want };
        let eta = f64::from(self.eta.unwrap_or(200_000)) / MILLION;
        let depth = if alone { 1 } else { depth };
        Ok(Plan { policy, variables, want, candidates, depth, shards, theta, eta })
    }
}

const OPTIONS: &str = "want=, depth=, shards=, theta= and eta=, e.g. scheduled:dependency,want=32,theta=0.1";

fn policy(word: &str) -> Result<Policy> {
    let words = Policy::ALL.map(Policy::word);
    let found = Policy::ALL.into_iter().find(|policy| policy.word() == word);
    found.ok_or_else(|| {
        let near = crate::model::did_you_mean(word, &words);
        let words = words.join(", ");
        Error::Usage(format!("no policy {word}{near}; there is {words}, and behind it {OPTIONS}"))
    })
}

impl Display for Schedule {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        let count = |key: &str, value: Option<u32>| value.map(|value| format!("{key}={value}"));
        let real = |key: &str, value: Option<u32>| {
            value.map(|value| format!("{key}={}", f64::from(value) / MILLION))
        };
        let parts = [
            self.policy.map(|policy| policy.word().to_string()),
            count("want", self.want),
            count("depth", self.depth),
            count("shards", self.shards),
            real("theta", self.theta),
            real("eta", self.eta),
        ];
        f.write_str(&parts.into_iter().flatten().collect::<Vec<_>>().join(","))
    }
}

/// A [`Schedule`] with everything decided.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// Which variables are next.
    pub policy: Policy,
    /// How many there are.
    pub variables: usize,
    /// The most that are updated in a round.
    pub want: usize,
    /// Those that are drawn for it, of which some may be left out.
    pub candidates: usize,
    /// Rounds on their way at a time: a push may miss the changes of the depth − 1 rounds before it.
    pub depth: usize,
    /// Schedulers that take turns.
    pub shards: usize,
    /// Bound on the correlation of two variables of a round; `None` looks at none.
    pub theta: Option<f64>,
    /// η in units of the mean of |δβ|.
    pub eta: f64,
}

/// The most rounds from one point at which the run may stop, with nothing on its way, to the next.
const MOST_ROUNDS: usize = 256;

impl Plan {
    /// The stretches that an epoch has, and rounds in each that update variables.
    fn stretches(&self) -> (usize, usize) {
        let rounds = self.variables.div_ceil(self.want);
        let stretches = rounds.div_ceil(MOST_ROUNDS);
        (stretches, rounds.div_ceil(stretches))
    }

    /// Clocks from one point with nothing on its way to the next. Where correlations are looked at, the first of them
    /// does that for the first candidates and updates nothing.
    pub fn stretch(&self) -> usize {
        self.stretches().1 + usize::from(self.theta.is_some())
    }

    /// Clocks, which are rounds, in an epoch: at least as many updates as there are variables, if each round has as
    /// many as it wants.
    pub fn clocks_per_epoch(&self) -> usize {
        self.stretches().0 * self.stretch()
    }

    /// The variables of shard `shard`.
    pub fn slice(&self, shard: usize) -> Range<usize> {
        crate::serial::share(self.variables, self.shards, shard)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::strategy::StrategySpec;

    #[test]
    fn words_come_back_as_they_were_written() {
        for text in [
            "scheduled",
            "scheduled:all",
            "scheduled:want=8",
            "scheduled:dependency,want=32,depth=2,shards=2,theta=0.1,eta=0.05",
            "scheduled:workingset,theta=0.25",
        ] {
            assert_eq!(text.parse::<StrategySpec>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn other_words_are_refused_with_what_is_allowed() {
        let message = |text: &str| text.parse::<StrategySpec>().unwrap_err().to_string();
        assert!(
            message("scheduled:prority").contains("did you mean priority?"),
            "{}",
            message("scheduled:prority")
        );
        assert!(message("schedule").contains("did you mean scheduled?"));
        assert!(message("scheduled:random,wnat=3").contains("did you mean want?"));
        assert!(message("scheduled:random,want=0").contains("\"want=0\"; variables a round, from 1 to 4096"));
        assert!(message("scheduled:random,theta=2").contains("1 looks at none"));
        assert!(message("scheduled:random,depth=x").contains("from 1 to 16"));
        assert!(message("scheduled:random,priority").contains("behind the policy come want="));
        assert!(message("scheduled:").contains("no policy"));
        assert!(message("scheduled:eta=nan").contains("from 0 to 1"));
    }

    #[test]
    fn a_plan_fits_the_variables_or_is_refused() {
        let plan = |text: &str, variables, lanes| Schedule::parse(text).unwrap().resolve(variables, lanes);
        for (text, variables) in
            [("dependency", 1), ("random,depth=4", 4), ("priority,shards=8", 15), ("all,depth=2", 9)]
        {
            let message = plan(text, variables, 2).unwrap_err().to_string();
            assert!(message.contains(&format!("{variables} variables")), "{message}");
        }
        for variables in 2..200 {
            for text in ["dependency", "random", "all", "workingset,depth=1,want=64"] {
                let plan = plan(text, variables, 3).unwrap();
                assert!(plan.want >= 1 && plan.candidates >= plan.want, "{text}, {variables}: {plan:?}");
                let (stretches, rounds) = plan.stretches();
                assert!(stretches * rounds * plan.want >= variables && rounds <= MOST_ROUNDS);
            }
        }
        assert_eq!(plan("random,want=1", 1000, 2).unwrap().clocks_per_epoch(), 1000);
        assert_eq!(plan("dependency,want=1", 1000, 2).unwrap().clocks_per_epoch(), 1004);
    }
}
