//! What must be the same in a run that goes on with another.

use super::Run;

impl Run {
    /// The first of model, lanes, seed, transfer and settings that is not what it was in `before`: its name, what it is
    /// here, what it was. Data are compared by their fingerprint, elsewhere.
    pub fn first_difference(&self, before: &Run) -> Option<(&'static str, String, String)> {
        let given = |run: &Run| {
            [
                ("the model", run.model.clone()),
                ("--lanes", run.lanes.to_string()),
                ("--seed", run.seed.to_string()),
                ("--transfer", run.transfer.to_string()),
                ("the settings", serde_json::to_string(&run.settings).unwrap_or_default()),
            ]
        };
        let pairs = given(self).into_iter().zip(given(before));
        pairs.map(|((what, now), (_, then))| (what, now, then)).find(|(_, now, then)| now != then)
    }
}
