//! `ms,add|remove,machine[,zone]`.

use super::{Content, ReadOptions, Rows, Source, shown, whole};
use crate::trace::{Change, Event, Present, Trace};

/// Most milliseconds: about 300 years, so that no sum of times overflows.
const MOST_MS: u64 = 10_000_000_000_000;

pub(super) struct Events {
    options: ReadOptions,
    present: Present,
    events: Vec<Event>,
}

impl Events {
    pub(super) fn new(options: ReadOptions) -> Events {
        Events { options, present: Present::default(), events: Vec::new() }
    }
}

fn event(fields: &[&str]) -> Result<Event, String> {
    let (ms, change, machine, zone) = match fields {
        [ms, change, machine] => (ms, change, machine, None),
        [ms, change, machine, zone] => (ms, change, machine, Some(*zone).filter(|zone| !zone.is_empty())),
        _ => return Err(format!("{} columns; ms,add|remove,machine[,zone] are needed", fields.len())),
    };
    let ms = whole(ms, "time")?;
    if ms > MOST_MS {
        return Err(format!("time {ms} ms; at most {MOST_MS}"));
    }
    let change = match change.to_ascii_lowercase().as_str() {
        "add" => Change::Add,
        "remove" => Change::Remove,
        _ => return Err(format!("`{}`; add or remove is needed", shown(change))),
    };
    if machine.is_empty() {
        return Err("the machine has no name".into());
    }
    Ok(Event { ms, change, machine: (*machine).into(), zone: zone.map(String::from) })
}

impl Rows for Events {
    fn row(&mut self, fields: &[&str]) -> Result<(), String> {
        let event = event(fields)?;
        self.present.take(&event, self.options.capacity())?;
        self.events.push(event);
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<Source, String> {
        let trace = Trace::checked(self.events, 0);
        Ok(Source { form: "event rows", content: Content::Events(trace), notes: Vec::new() })
    }
}
