//! Who watches a run.

use super::Source;
use crate::Result;
use crate::event::Event;
use crate::table::Params;

/// What rank 0 of a run tells the outside.
pub trait Observer {
    /// Something happened.
    fn event(&mut self, event: &Event);

    /// Asked at every synchronisation point whether what happens can still be recorded.
    ///
    /// # Errors
    /// If going on would be in vain: ends the run.
    fn check(&mut self) -> Result<()> {
        Ok(())
    }

    /// Asked once training has ended well: is there a use for the model? If not, it is not brought together.
    fn wants_model(&self) -> bool {
        true
    }

    /// Training has ended well, and the model is wanted. The tables are complete, or, `None`, have been written to the run folder already, because
    /// they may not fit in memory. Called before [`Event::Ended`].
    ///
    /// # Errors
    /// If the model cannot be saved.
    fn finished(&mut self, _params: Option<&Params>, _source: &Source) -> Result<()> {
        Ok(())
    }
}
