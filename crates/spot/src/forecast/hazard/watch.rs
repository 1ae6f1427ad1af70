//! Has a trace changed character?

/// What is looked for: events come so many times as often as said, or as rarely.
const TIMES: f64 = 3.0;
/// Log-likelihood ratio that is enough. False alarms are then at least exp(7), about 1,100, intervals apart on average.
const ENOUGH: f64 = 7.0;

/// Two cumulative sums (Page 1954) of the log-likelihood ratio of Poisson counts: three times the chance against
/// the chance that was said, and a third of it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Watch {
    more: f64,
    less: f64,
}

impl Watch {
    /// Takes in whether an event that had `chance` happened. True once there have been far too many or too few; it then
    /// begins anew.
    pub(super) fn has_changed(&mut self, happened: bool, chance: f64) -> bool {
        let seen = if happened { TIMES.ln() } else { 0.0 };
        self.more = (self.more + seen - chance * (TIMES - 1.0)).max(0.0);
        self.less = (self.less - seen + chance * (1.0 - 1.0 / TIMES)).max(0.0);
        let is_changed = self.more > ENOUGH || self.less > ENOUGH;
        if is_changed {
            *self = Watch::default();
        }
        is_changed
    }
}
