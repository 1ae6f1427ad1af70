//! Several lanes take two clocks a round. In one they solve the small problem of the working set, and put on the tables
//! what all need to judge by; in the next all judge the same numbers alike, and ask for what the next λ needs. What goes
//! over the tables depends on how the data are cut: that is the [`Form`].

use super::input::Held;
use super::single::{Progress, Round};
use super::{Lasso, Screening, Solved};
use dunlin::{Params, Result, Sums, Unit};
use serde::{Deserialize, Serialize};

/// One clock of one lane.
pub(super) struct Clock<'a> {
    pub(super) model: &'a Lasso,
    pub(super) unit: &'a Unit<'a>,
    pub(super) params: &'a mut Params,
    pub(super) progress: &'a mut Progress,
    pub(super) held: &'a Held,
    pub(super) sums: &'a mut Sums,
}

/// How lanes that have parts of the data find out together what one lane with all of them would know.
pub(super) trait Form {
    /// True if columns may be left out that have no coefficient for sure.
    const SCREENS: bool;

    /// Solves the small problem for λ, if that was `asked`, and puts on the tables what all need to judge by.
    fn solve(&mut self, clock: &mut Clock, asked: Option<f64>);

    /// What all lanes found, from the tables.
    fn round(&mut self, clock: &mut Clock) -> Round;

    /// `round` has been judged: keeps what is needed of it, and empties the tables.
    fn judged(&mut self, clock: &mut Clock, round: Round);

    /// Puts the lane's part of the columns that are `missing` on the tables.
    ///
    /// # Errors
    /// If there are too many coefficients.
    fn ask(&mut self, clock: &mut Clock, missing: Vec<u32>) -> Result<()>;
}

/// Whose turn it is, and what the next one needs.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Turn<F> {
    /// True if what is to be judged is on the tables.
    is_solved: bool,
    /// λ of the small problem that is to be solved.
    asked: Option<f64>,
    pub(super) form: F,
}

impl<F: Form> Turn<F> {
    /// One clock of one lane.
    ///
    /// # Errors
    /// If there are too many coefficients.
    pub(super) fn take(&mut self, mut clock: Clock) -> Result<()> {
        self.is_solved = !self.is_solved;
        if self.is_solved {
            self.form.solve(&mut clock, self.asked.take());
            return Ok(());
        }
        self.judge(clock)
    }

    fn judge(&mut self, mut clock: Clock) -> Result<()> {
        let mut round = self.form.round(&mut clock);
        let Clock { model, unit, held, .. } = clock;
        if clock.progress.lambdas.is_empty() {
            clock.progress.start(&model.config, round.most);
        }
        let screens = F::SCREENS && model.config.screening == Screening::GapSafe;
        let lengths = if screens { &held.lengths[..] } else { &[] };
        let mut found: Vec<(usize, Solved)> = Vec::new();
        let open =
            clock.progress.judge(&model.config, &mut round, lengths, |at, solved| found.push((at, solved)));
        if unit.lane == 0 {
            model.write(clock.params, clock.progress, &found);
        }
        self.form.judged(&mut clock, round);
        let Some((penalty, missing)) = open else { return Ok(()) };
        self.asked = Some(penalty.l1 / model.config.l1_ratio);
        self.form.ask(&mut clock, missing)
    }
}
