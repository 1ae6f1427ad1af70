//! The policies by their statistics, and the promises of the pipeline under random sums.

use super::*;
use crate::rng::{Stream, stream};
use std::collections::BTreeSet;

fn plan(text: &str, variables: usize, lanes: usize) -> Plan {
    Schedule::parse(text).unwrap().resolve(variables, lanes).unwrap()
}

fn changes(variables: &[u32], delta: impl Fn(u32) -> f64) -> Vec<Change> {
    let change = |variable: &u32| Change { variable: *variable, old: 0.0, new: delta(*variable) };
    variables.iter().map(change).collect()
}

/// A scheduler to which every variable has moved by `delta`.
fn learnt(plan: &Plan, seed: u64, delta: impl Fn(u32) -> f64) -> (Scheduler, u64) {
    let mut scheduler = Scheduler::new(plan, seed);
    let mut seen = BTreeSet::new();
    let mut round = 0;
    while seen.len() < plan.variables {
        let drawn = scheduler.draw(round, plan.want, &[]);
        assert!(drawn.iter().all(|variable| seen.insert(*variable)), "each once before any twice");
        scheduler.finished(&changes(&drawn, &delta));
        round += 1;
    }
    (scheduler, round)
}

#[test]
fn by_priority_variables_come_as_often_as_the_formula_says() {
    let variables = 50;
    let plan = plan("priority,want=1,eta=0.25", variables, 1);
    let delta =
        |variable: u32| f64::from(variable % 7) * if variable.is_multiple_of(11) { 10.0 } else { 1.0 };
    for seed in 0..3 {
        let (mut scheduler, first) = learnt(&plan, seed, delta);
        let total: f64 = (0..variables as u32).map(delta).sum();
        let eta = 0.25 * total / variables as f64;
        let draws = 200_000;
        let mut counts = vec![0f64; variables];
        for round in first..first + draws {
            let [drawn] = scheduler.draw(round, 1, &[])[..] else { panic!("one") };
            counts[drawn as usize] += 1.0;
        }
        let chi_square: f64 = (0..variables)
            .map(|variable| {
                let share = (delta(variable as u32) + eta) / (total + eta * variables as f64);
                let expected = share * draws as f64;
                (counts[variable] - expected).powi(2) / expected
            })
            .sum();
        // 49 degrees of freedom: mean 49, standard deviation 9.9; beyond 100 once in 50,000.
        assert!(chi_square < 100.0, "seed {seed}: {chi_square}");
    }
}

/// The second of two drawn comes in proportion to the weights without the first.
#[test]
fn without_replacement_the_rest_keeps_its_proportions() {
    let weights = [6.0, 3.0, 1.0, 2.0];
    let plan = Plan { want: 2, candidates: 2, ..plan("priority,want=1,eta=0", 4, 1) };
    let (mut scheduler, first) = learnt(&plan, 5, |variable| weights[variable as usize]);
    let draws = 100_000;
    let mut counts = [[0f64; 4]; 4];
    for round in first..first + draws {
        let [one, two] = scheduler.draw(round, 2, &[])[..] else { panic!("two") };
        counts[one as usize][two as usize] += 1.0;
    }
    for (one, two) in (0..4).flat_map(|one| (0..4).map(move |two| (one, two))) {
        let share = if one == two { 0.0 } else { weights[one] / 12.0 * weights[two] / (12.0 - weights[one]) };
        let (expected, count) = (share * draws as f64, counts[one][two]);
        assert!((count - expected).abs() <= 5.0 * expected.sqrt(), "{one}, {two}: {count}, not {expected}");
    }
}

#[test]
fn what_is_drawn_is_never_twice_in_a_round_nor_busy() {
    for policy in ["random", "priority", "dependency", "roundrobin", "workingset"] {
        for seed in 0..20 {
            let mut rng = stream(seed, "draw-test", &[]);
            let (variables, shards) = (20 + rng.below(100), 1 + rng.below(4));
            let plan = plan(&format!("{policy},shards={shards},theta=1"), variables, 2);
            let mut scheduler = Scheduler::new(&plan, seed);
            for round in 0..200 {
                let busy: Vec<u32> = (0..rng.below(12)).map(|_| rng.below(variables) as u32).collect();
                let drawn = scheduler.draw(round, 1 + rng.below(30), &[&busy]);
                let slice = plan.slice(round as usize % shards);
                let distinct: BTreeSet<u32> = drawn.iter().copied().collect();
                let place = format!("{policy}, seed {seed}, round {round}");
                assert_eq!(distinct.len(), drawn.len(), "{place}: {drawn:?}");
                assert!(drawn.iter().all(|v| slice.contains(&(*v as usize)) && !busy.contains(v)), "{place}");
                let left = drawn.len() / 3;
                scheduler.left_out(round, drawn[..left].iter().copied());
                scheduler.finished(&changes(&drawn[left..], |variable| f64::from(variable % 3)));
            }
        }
    }
}

/// What is left out for its dependence comes again before the others: nothing is left out for ever.
#[test]
fn in_turn_nothing_starves() {
    for policy in ["roundrobin", "workingset", "dependency"] {
        let plan = plan(&format!("{policy},want=6,theta=0.5"), 40, 2);
        let mut scheduler = Scheduler::new(&plan, 9);
        let mut seen = BTreeSet::new();
        for round in 0..60 {
            let drawn = scheduler.draw(round, plan.candidates, &[]);
            seen.insert(drawn[0]);
            scheduler.left_out(round, drawn[1..].iter().copied());
            scheduler.finished(&changes(&drawn[..1], |_| 0.0));
        }
        assert_eq!(seen.len(), 40, "{policy}: {seen:?}");
    }
}

#[test]
fn the_working_set_is_gone_through_while_the_rest_waits() {
    let plan = plan("workingset,want=5", 100, 1);
    let mut scheduler = Scheduler::new(&plan, 1);
    let active = |variable: u32| variable % 10 == 3;
    let mut counts = vec![0; 100];
    for round in 0..200 {
        let drawn = scheduler.draw(round, plan.want, &[]);
        drawn.iter().for_each(|variable| counts[*variable as usize] += 1);
        let delta = |variable: u32| if active(variable) { 0.99f64.powi(round as i32) } else { 0.0 };
        scheduler.finished(&changes(&drawn, delta));
    }
    let (least, most) = (
        (0..100u32).filter(|v| active(*v)).map(|v| counts[v as usize]).min().unwrap(),
        (0..100u32).filter(|v| !active(*v)).map(|v| counts[v as usize]).max().unwrap(),
    );
    assert!(least > 4 * most && most >= 2, "{counts:?}");
}

/// Columns in groups of five: within a group the correlation is 0.9, between groups what `between` says.
fn product(left: u32, right: u32, between: f64) -> f64 {
    let scale = f64::from(1 + left % 3) * f64::from(1 + right % 3);
    scale
        * if left == right {
            1.0
        } else if left / 5 == right / 5 {
            0.9
        } else {
            between
        }
}

/// Goes through rounds as the training loop does: begins them, ends the oldest when it must, with products that come
/// late. Checks each round's picks; gives them.
fn go(plan: &Plan, seed: u64, between: f64, rounds: u64, rng: &mut Stream) -> Vec<Vec<u32>> {
    let mut pipeline = Pipeline::new(plan, seed, &[]);
    let theta = plan.theta.unwrap_or(f64::INFINITY);
    let mut all: Vec<Vec<u32>> = Vec::new();
    let mut end = |pipeline: &mut Pipeline| {
        let round = pipeline.oldest().cloned().unwrap();
        let products: Vec<f64> = round.pairs.iter().map(|(j, k)| product(*j, *k, between)).collect();
        let scale = rng.unit();
        pipeline.end(&products, &changes(&round.picks, |variable| scale * f64::from(variable % 4)));
    };
    for number in 0..rounds {
        while pipeline.on_their_way() > pipeline.most_before(number) {
            end(&mut pipeline);
        }
        let picks = pipeline.begin(number).picks.clone();
        assert!(pipeline.on_their_way() <= plan.depth);
        assert!(picks.len() <= plan.want);
        let oldest = pipeline.oldest().unwrap().number as usize;
        let together: Vec<u32> = all[oldest..].iter().flatten().chain(&picks).copied().collect();
        for (place, left) in together.iter().enumerate() {
            for right in &together[..place] {
                let cosine = if left / 5 == right / 5 { 0.9 } else { between };
                assert!(left != right && cosine < theta, "round {number}: {left} with {right}, {cosine}");
            }
        }
        all.push(picks);
    }
    all
}

#[test]
fn no_two_variables_on_their_way_depend_on_each_other_by_more_than_theta() {
    for seed in 0..12 {
        let mut rng = stream(seed, "pipeline-test", &[]);
        let policy = ["dependency", "workingset", "roundrobin", "random"][rng.below(4)];
        let (depth, shards) = (1 + rng.below(4), 1 + rng.below(3));
        let text = format!("{policy},want=8,theta=0.3,depth={depth},shards={shards}");
        let plan = plan(&text, 150 + rng.below(100), 2);
        let picks = go(&plan, seed, 0.01, 400, &mut rng);
        let updates: usize = picks.iter().map(Vec::len).sum();
        // In turn, neighbours come together: of twelve candidates two or three groups.
        assert!(
            updates > 400 * if policy == "roundrobin" { 2 } else { 4 },
            "seed {seed}, {text}: {updates} updates in 400 rounds"
        );
    }
}

/// Neighbours that move more are the first choice, but not for ever: else what they keep out would never be updated.
#[test]
fn what_hardly_moves_gets_its_turn_beside_neighbours_that_move() {
    let mut rng = stream(2, "turn-test", &[]);
    let plan = plan("dependency,want=8,theta=0.3", 20, 2);
    let picks = go(&plan, 2, 0.01, 2000, &mut rng);
    for variable in 0..20 {
        let updates = picks.iter().flatten().filter(|picked| **picked == variable).count();
        assert!(updates >= 15, "variable {variable}: {updates} updates in 2000 rounds");
    }
}

/// A frequent feature depends on all others by more than θ, so that it goes alone or not at all: yet it is updated in the first
/// pass, while others wait for theirs, and then at least once in four times as many rounds as there are variables.
#[test]
fn what_depends_on_all_others_is_updated_in_the_first_pass_and_then_regularly() {
    let variables = 60;
    for (seed, hub) in [(0, 0), (1, 17), (2, 59)] {
        let plan = plan("dependency,want=16,theta=0.3", variables, 2);
        let mut pipeline = Pipeline::new(&plan, seed, &[]);
        let mut last = vec![0; variables];
        for number in 0..2000 {
            if let Some(round) = pipeline.oldest().cloned() {
                let cosine = |(left, right): &Pair| match (left == right, *left == hub || *right == hub) {
                    (true, _) => 1.0,
                    (_, true) => 0.5,
                    _ => 0.0,
                };
                let products: Vec<f64> = round.pairs.iter().map(cosine).collect();
                let moves = |variable| if variable == hub { 0.0 } else { 1.0 };
                pipeline.end(&products, &changes(&round.picks, moves));
            }
            for variable in &pipeline.begin(number).picks {
                last[*variable as usize] = number;
            }
            // Besides, the first round of each stretch of five updates nothing.
            let most = 5 * variables as u64 + 20;
            let late = (0..variables).find(|variable| number - last[*variable] > most);
            assert_eq!(late, None, "seed {seed}, round {number}: {last:?}");
            let is_tried = number < 20 || last.iter().all(|round| *round > 0);
            assert!(is_tried, "seed {seed}, round {number}: not tried, {last:?}");
        }
    }
}

/// Many small correlations are as bad as one large: together they stay below 1.
#[test]
fn correlations_of_a_round_stay_below_one_in_all() {
    let mut rng = stream(1, "load-test", &[]);
    let plan = plan("dependency,want=64,theta=0.5", 1000, 2);
    let picks = go(&plan, 3, 0.11, 100, &mut rng);
    let most = picks.iter().map(Vec::len).max().unwrap();
    assert_eq!(most, 10, "nine others with 0.11 each are 0.99");
}

#[test]
fn depth_keeps_rounds_on_their_way_and_none_at_the_ends_of_stretches() {
    let plan = plan("random,want=4,depth=3", 2000, 2);
    assert_eq!((plan.stretch(), plan.clocks_per_epoch()), (250, 500));
    let mut pipeline = Pipeline::new(&plan, 1, &[]);
    for number in 0..500 {
        let most = pipeline.most_before(number);
        assert_eq!(most, if number % 250 == 0 { 0 } else { 2 });
        while pipeline.on_their_way() > most {
            pipeline.end(&[], &[]);
        }
        pipeline.begin(number);
    }
}

#[test]
fn a_state_that_was_saved_goes_on_as_it_would_have() {
    for policy in ["dependency", "workingset", "roundrobin", "random", "priority"] {
        for seed in 0..10 {
            let mut rng = stream(seed, "save-test", &[]);
            let plan = plan(&format!("{policy},want=5,shards=2,theta=0.4"), 60, 2);
            let mut one = Scheduler::new(&plan, seed);
            let mut rounds = |schedulers: &mut [&mut Scheduler], from: u64, count: u64| {
                for round in from..from + count {
                    let left = rng.below(3);
                    let drawn: Vec<Vec<u32>> =
                        schedulers.iter_mut().map(|own| own.draw(round, plan.candidates, &[])).collect();
                    assert!(drawn.iter().all(|own| *own == drawn[0]), "{policy}, seed {seed}: {drawn:?}");
                    for own in schedulers.iter_mut() {
                        let left = left.min(drawn[0].len());
                        own.left_out(round, drawn[0][..left].iter().copied());
                        own.finished(&changes(&drawn[0][left..], |v| f64::from((v + round as u32) % 5)));
                    }
                }
            };
            let before = seed * 7;
            rounds(&mut [&mut one], 0, before);
            let mut other = Scheduler::new(&plan, seed);
            other.load(&one.save());
            rounds(&mut [&mut one, &mut other], before, 100);
        }
    }
}
