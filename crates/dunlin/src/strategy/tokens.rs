//! `rotation:async`: the rows of the rotating tables are cut into R = t·V tokens of a few rows each, which wander over
//! the V lanes with no barrier inside an epoch (NOMAD, Yun et al. 2014; the asynchronous DS-MLR, Raman et al. 2019).
//!
//! A token carries its *lap* and the lanes that it has visited in it; from a lane it goes on to one that it has not,
//! where few others wait. Once it has been everywhere it begins the next lap. So every (data block, row block) pair is
//! visited exactly once a lap and no row is ever in two places, but in which order is a matter of who is quick: the
//! result is that of *some* serial order, another one each time, except in the simulator. The order can be written
//! down and gone through again ([`order`]).
//!
//! A lane may be one lap ahead of its slowest token, never two: tokens of lap k + 2 wait until it has had all of
//! lap k. A token of the least lap never has to wait for another, so that nobody waits for ever. Models that gather
//! something over all visits of a lap have lanes that are in one lap at a time.
//!
//! At a *synchronisation point* all tokens of the laps before it have been everywhere, and those of the next have
//! visited nobody: every worker sends the others a copy of what it holds. Tables that are never whole in one place have
//! their tokens come home instead, to the lanes that they begin at (`tokens/home.rs`). Where the receiver's data touch only
//! part of a token's rows, only that part travels (`tokens/pieces.rs`).

mod arrivals;
mod departures;
mod home;
mod merged;
pub mod order;
mod pieces;
#[cfg(test)]
mod tests;
mod token;

use super::reach::Reach;
use super::rotation::{MakeRows, rotates};
use super::row_blocks::{outgoing, rows_of};
use super::set::Set;
use super::{Lanes, Report, Strategy, Task};
use crate::channel::ROTATION;
use crate::codec::{Entry, Part};
use crate::hosting::Hosting;
use crate::run::Run;
use crate::serial::share;
use crate::table::{Params, Storage, TableSpec};
use crate::update::Geometry;
use crate::{Error, Result, Sums};
use dunlin_comm::collective::Node;
use dunlin_comm::{Buffer, Comm, Message, Time};
use merged::Merged;
use order::{Script, Visit};
use pieces::Answer;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;
use token::{Head, Token, Track};

/// Tokens per lane, where there are rows for as many: enough that a lane which is slow for a while leaves work to the
/// others, and few enough that a visit is worth its message.
const TOKENS_PER_LANE: usize = 8;

/// How many tokens there are per lane, if `lanes` lanes train these tables.
pub fn tokens_per_lane(tables: &[TableSpec], lanes: usize) -> usize {
    let rows = tables.iter().filter(|table| rotates(table.axis)).map(|table| table.rows).max();
    let wanted = (rows.unwrap_or(0) / lanes.max(1)).clamp(1, TOKENS_PER_LANE);
    wanted.max(super::rotation::least_per_lane(tables, lanes))
}

/// What ranks tell each other.
#[derive(Clone, Debug, Serialize, Deserialize)]
enum Packet {
    /// The rows of some tokens in one of the rotating tables, those of the first table first, or pieces of them; and how
    /// many tokens wait at each of the sender's lanes.
    Visit { place: u16, tokens: Vec<Head>, waiting: Vec<u32>, entries: Vec<Entry> },
    /// The updates of merged tables by `lanes` in `lap`.
    Merge { lap: u64, lanes: Node, entries: Vec<Entry> },
    /// A copy of a token's rows in a rotating table, as they are before `lap`.
    Copy { lap: u64, token: u32, place: u16, entries: Vec<Entry> },
    /// The tokens of the sender's lanes have come home before `lap`.
    Settled { lap: u64 },
    /// To a token's home: it has gone to `lane`, whose worker touches nothing of this piece.
    Rest { token: u32, lane: u32, place: u16, entries: Vec<Entry> },
    /// From a token's home to where it has gone from rank `left`: what its worker touches and that one does not.
    Fill { token: u32, left: u32, place: u16, entries: Vec<Entry> },
}

/// Tokens from another rank of which the rows of some tables are there.
#[derive(Debug)]
struct Coming {
    heads: Vec<Head>,
    /// By token, by place of the table.
    tokens: Vec<Vec<Storage>>,
}

impl Coming {
    fn new(heads: Vec<Head>) -> Coming {
        Coming { tokens: heads.iter().map(|_| Vec::new()).collect(), heads }
    }

    fn places(&self) -> usize {
        self.tokens.first().map_or(0, Vec::len)
    }

    fn has(&self, token: u32) -> bool {
        self.heads.iter().any(|head| head.token == token)
    }
}

/// The state of the strategy on one worker.
#[derive(Debug)]
pub struct Tokens {
    seed: u64,
    lanes: usize,
    hosted: Range<usize>,
    hosting: Hosting,
    row_blocks: Vec<Range<usize>>,
    rotating: Vec<usize>,
    geometry: Vec<Geometry>,
    merged: Merged,
    /// How many laps ahead of the first that it has not ended a lane may be: 0 or 1.
    ahead: u64,
    /// What each hosted lane has had.
    tracks: Vec<Track>,
    /// Tokens that wait here.
    held: BTreeMap<u32, Token>,
    /// Their order: lap, lanes visited, arrival. Who has a long way to go is first.
    queue: BTreeSet<(u64, usize, u64, u32)>,
    arrivals: u64,
    /// The token that is worked with, without its rows.
    at_work: Option<(u32, Token)>,
    /// By sender.
    coming: BTreeMap<usize, Coming>,
    /// What workers touch, if tokens travel in pieces.
    reach: Option<Reach>,
    /// If so, the tokens that are at home here and are away: where they are, and their rows, as far as they are not there.
    away: BTreeMap<u32, (usize, Vec<Storage>)>,
    /// Tokens that have come from a worker without what their home is to send.
    unfilled: BTreeMap<u32, (usize, Token)>,
    /// What homes have sent of tokens on their way from a worker, by token and place of the table.
    fills: BTreeMap<(u32, usize), (usize, Arc<Buffer>)>,
    /// What is to be sent after tokens of this home that have gone on.
    answers: Vec<Answer>,
    /// By receiver.
    outbox: Vec<Vec<(u32, Token)>>,
    /// When all of it went out last.
    flushed: Time,
    /// How many tokens wait at each lane, as far as is known here.
    waiting: Vec<u32>,
    /// The last lap that may be begun without asking; see [`Strategy::furthest`].
    declared: u64,
    /// The lap that the run went on from.
    first_lap: u64,
    /// Copies by other workers of tokens before lap `copies_lap`: token, place in `rotating`.
    copies: BTreeMap<(u32, usize), Arc<Buffer>>,
    copies_lap: u64,
    /// The lap before which the last synchronisation point was.
    drained: u64,
    /// True while the tables are as a synchronisation point wants them.
    whole: bool,
    /// True if rotating tables are never whole in one place.
    spread: bool,
    /// The other workers whose tokens have come home before the lap that comes.
    settled: BTreeSet<usize>,
    log: Option<Vec<Visit>>,
    script: Option<Script>,
    report: Report,
}

impl Tokens {
    /// For the tables `params` of a run whose lanes have all done as many clocks. `row_blocks` are the ranges of rows,
    /// tokens_per_lane x lanes of them. Lanes may be in two laps at a time if the model `interleaves` them. With a
    /// `script` this worker hosts all lanes and goes through that order. `spread` makes the rows that it is asked for, if
    /// the rotating tables are not in `params`, and never are to be; `None` if they are, complete on every worker.
    pub fn new(
        params: &Params,
        run: &Run,
        lanes: &Lanes,
        row_blocks: Vec<Range<usize>>,
        interleaves: bool,
        script: Option<Script>,
        mut spread: Option<MakeRows>,
    ) -> Result<Tokens> {
        let tokens = row_blocks.len();
        let lap = lanes.clocks.first().map_or(0, |clock| clock / tokens.max(1) as u64);
        let is_rotating = |table: &usize| rotates(params.replicas[*table].spec.axis);
        let mut state = Tokens {
            seed: run.seed,
            lanes: lanes.total,
            hosted: lanes.hosted.clone(),
            hosting: lanes.hosting.clone(),
            rotating: (0..params.replicas.len()).filter(is_rotating).collect(),
            geometry: params.geometry(),
            merged: Merged::new(params, lanes.total, lanes.hosted.clone(), lap, script.is_some()),
            ahead: u64::from(interleaves),
            tracks: lanes.hosted.clone().map(|_| Track::new(lap, tokens)).collect(),
            held: BTreeMap::new(),
            queue: BTreeSet::new(),
            arrivals: 0,
            at_work: None,
            coming: BTreeMap::new(),
            reach: None,
            away: BTreeMap::new(),
            unfilled: BTreeMap::new(),
            fills: BTreeMap::new(),
            answers: Vec::new(),
            outbox: (0..lanes.hosting.workers()).map(|_| Vec::new()).collect(),
            flushed: Time(0),
            waiting: (0..lanes.total).map(|lane| share(tokens, lanes.total, lane).len() as u32).collect(),
            declared: 0,
            first_lap: lap,
            copies: BTreeMap::new(),
            copies_lap: lap,
            drained: lap,
            whole: true,
            spread: spread.is_some(),
            settled: BTreeSet::new(),
            log: run.log_order.is_some().then(Vec::new),
            script,
            report: Report::default(),
            row_blocks,
        };
        for lane in state.hosted.clone() {
            for token in share(tokens, state.lanes, lane) {
                let rows = &state.row_blocks[token];
                let make = |table: &usize| rows_of(params, &mut spread, *table, rows.clone());
                let values = state.rotating.iter().map(make).collect::<Result<_>>()?;
                let visited = Set::new(state.lanes);
                state.hold(token as u32, Token { lap, visited, lane, values });
            }
        }
        (state.hosted.clone()).for_each(|lane| state.recount(lane));
        Ok(state)
    }

    /// The same with tokens that travel in pieces, on all workers alike.
    pub fn with_reach(self, reach: Option<Reach>) -> Tokens {
        Tokens { reach, ..self }
    }

    fn recount(&mut self, lane: usize) {
        self.waiting[lane] = self.held.values().filter(|token| token.lane == lane).count() as u32;
    }

    /// The workers apart from `rank`.
    fn others(&self, rank: usize) -> impl Iterator<Item = usize> + use<> {
        (0..self.outbox.len()).filter(move |worker| *worker != rank)
    }

    fn hold(&mut self, number: u32, token: Token) {
        self.waiting[token.lane] += 1;
        self.arrivals += 1;
        self.queue.insert((token.lap, token.visited.count(), self.arrivals, number));
        self.held.insert(number, token);
    }

    fn lap_of(&self, clock: u64) -> u64 {
        clock / self.row_blocks.len().max(1) as u64
    }

    /// True if a lane may begin with a token of `lap`, unless all are to stop before.
    fn allows(&self, lane: usize, lap: u64) -> bool {
        lap <= self.tracks[lane - self.hosted.start].lap + self.ahead && self.merged.allows(lap)
    }

    /// The first token in the queue that its lane may begin with now: its place in the queue.
    fn first(&self, before: u64) -> Option<(u64, usize, u64, u32)> {
        let is_allowed = |(lap, _, _, number): &&(u64, usize, u64, u32)| {
            self.held.get(number).is_some_and(|token| self.allows(token.lane, *lap))
        };
        self.queue.iter().take_while(|place| place.0 < before).find(is_allowed).copied()
    }

    /// The next visit before lap `before`, and in a replay how many laps were merged when its view began.
    fn take_next(&mut self, before: u64) -> Result<Option<(u32, Token, Option<u64>)>> {
        let before = before.min(self.declared.saturating_add(1));
        let (place, lane, merged) = match self.script.take() {
            None => (self.first(before), None, None),
            Some(mut script) => {
                let visit = script.take(|visit| self.may_follow(visit, before));
                self.script = Some(script);
                let number = visit.map(|visit| visit.row_block as u32);
                let place = self.queue.iter().find(|place| Some(place.3) == number).copied();
                (place, visit.map(|visit| visit.lane), visit.map(|visit| visit.merged))
            }
        };
        let Some(place) = place else { return Ok(None) };
        self.queue.remove(&place);
        let Some(mut token) = self.held.remove(&place.3) else { return Ok(None) };
        self.waiting[token.lane] = self.waiting[token.lane].saturating_sub(1);
        token.lane = lane.unwrap_or(token.lane);
        Ok(Some((place.3, token, merged)))
    }

    /// True if a visit of the script may come now.
    fn may_follow(&self, visit: &Visit, before: u64) -> bool {
        let Visit { lane, row_block, lap, hop, merged } = *visit;
        let is_there = self.held.get(&(row_block as u32)).is_some_and(|token| {
            token.lap == lap && token.visited.count() == hop && !token.visited.contains(lane)
        });
        let is_merged = self.merged.tables.is_empty()
            || (merged <= self.merged.laps && merged + 2 >= self.merged.laps && merged <= lap);
        lap < before && is_there && is_merged && self.allows(lane, lap)
    }

    /// Has lane and token meet: the task.
    fn enter(&mut self, params: &mut Params, number: u32, mut token: Token, merged: Option<u64>) -> Task {
        self.whole = false;
        let (lane, lap, row_block) = (token.lane, token.lap, number as usize);
        for (table, values) in self.rotating.iter().zip(std::mem::take(&mut token.values)) {
            let replica = &mut params.replicas[*table];
            replica.first = self.row_blocks[row_block].start;
            replica.values = values;
        }
        let merged = self.merged.open(params, lane, lap, merged);
        self.merged.swap(params, lane, lap);
        let hop = token.visited.count();
        self.log.iter_mut().for_each(|log| log.push(Visit { lane, row_block, lap, hop, merged }));
        let visit = self.tracks[lane - self.hosted.start].count(lap);
        self.at_work = Some((number, token));
        Task::Work { lane, row_block, clock: lap * self.row_blocks.len() as u64 + visit as u64 }
    }

    /// Waits for the next message and takes it in.
    fn wait(&mut self, comm: &mut Comm, params: &mut Params, what: &str) -> Result<()> {
        let start = comm.now();
        let message = comm.recv(ROTATION, None, what);
        self.report.blocked_seconds += comm.now().since(start).as_secs_f64();
        self.take_in(message?, params)?;
        self.answer(comm)
    }

    /// What the lane that is furthest behind waits for.
    fn waits_for(&self, before: u64) -> String {
        let tracks = self.hosted.clone().zip(&self.tracks);
        let Some((lane, track)) = { tracks }.min_by_key(|(lane, track)| (track.lap, *lane)) else {
            return "nothing".into();
        };
        let (lap, had, tokens) = (track.lap, track.count(track.lap), self.row_blocks.len());
        if lap >= before || self.held.values().any(|token| token.lane == lane && token.lap == lap) {
            return format!("the end of lap {} on all lanes", self.merged.laps);
        }
        let missing = (0..tokens).find(|token| !track.has(lap, *token)).unwrap_or(0);
        format!(
            "row blocks for lane {lane} in lap {lap} ({had} of {tokens} have come; not yet row block {missing}, for one)"
        )
    }

    /// Sends the others a copy of every token that waits here before `lap` and has not been copied.
    fn copy_out(&self, comm: &mut Comm, lap: u64, copied: &mut BTreeSet<u32>) -> Result<()> {
        let held = self.held.iter().filter(|(_, token)| token.lap == lap && token.visited.count() == 0);
        for (number, token) in held {
            if !copied.insert(*number) {
                continue;
            }
            for (place, values) in token.values.iter().enumerate() {
                let others: Vec<usize> = self.others(comm.rank()).collect();
                let numbers = Buffer::from(if others.is_empty() { &[] } else { values.bytes() });
                let Part { entries, body } = outgoing(comm, values.element(), numbers.into());
                let head = Packet::Copy { lap, token: *number, place: place as u16, entries };
                for worker in others {
                    comm.send(worker, ROTATION, Message::shared(&head, body.clone()))?;
                }
            }
        }
        Ok(())
    }

    /// Makes the rotating tables whole, of the tokens `own` and the copies of all others.
    fn put_together(&mut self, params: &mut Params, own: &BTreeSet<u32>) -> Result<()> {
        for (place, table) in self.rotating.iter().enumerate() {
            let replica = &mut params.replicas[*table];
            replica.first = 0;
            replica.values = Storage::zeroed(replica.spec.element, replica.spec.rows * replica.spec.stride());
            let copies = self.copies.iter().filter(|((_, other), _)| *other == place);
            let copies = copies.map(|((number, _), body)| (number, body.bytes()));
            let held = own.iter().filter_map(|number| Some((number, self.held.get(number)?)));
            let held = held.map(|(number, token)| (number, token.values[place].bytes()));
            for (number, bytes) in copies.chain(held) {
                if !replica.set_row_bytes(self.row_blocks[*number as usize].start, bytes) {
                    return Err(Error::Data(format!("rows of table {} do not fit", replica.spec.name)));
                }
            }
        }
        Ok(())
    }
}

impl Strategy for Tokens {
    fn furthest(&mut self, _: &Lanes) -> u64 {
        let lap = match &self.script {
            Some(_) => u64::MAX / 2,
            None => self.first(u64::MAX).map_or(0, |(lap, ..)| lap),
        };
        self.declared = self.declared.max(lap);
        (self.declared + 1).saturating_mul(self.row_blocks.len() as u64) - 1
    }

    fn next(&mut self, comm: &mut Comm, params: &mut Params, lanes: &Lanes, until: u64) -> Result<Task> {
        comm.poll()?;
        while let Some(message) = comm.recv_deadline(ROTATION, None, Time(0))? {
            self.take_in(message, params)?;
        }
        self.answer(comm)?;
        let before = self.lap_of(until);
        if let Some((number, token, merged)) = self.take_next(before)? {
            return Ok(self.enter(params, number, token, merged));
        }
        self.flush_all(comm)?;
        if lanes.clocks.iter().all(|clock| *clock >= until) {
            return Ok(Task::Reached);
        }
        if let Some(script) = &self.script {
            return Err(script.is_stuck());
        }
        let what = self.waits_for(before);
        // Something may be here that may be begun only once it has been said.
        if self.first(before).is_none() {
            self.wait(comm, params, &what)?;
        }
        Ok(Task::LookAround)
    }

    fn done(&mut self, comm: &mut Comm, params: &mut Params, lane: usize, clock: u64, _: Sums) -> Result<()> {
        let Some((number, mut token)) = self.at_work.take() else { return Ok(()) };
        for table in &self.rotating {
            let replica = &mut params.replicas[*table];
            let empty = Storage::zeroed(replica.spec.element, 0);
            token.values.push(std::mem::replace(&mut replica.values, empty));
        }
        self.merged.swap(params, lane, self.lap_of(clock));
        token.visited.insert(lane);
        let place = lane - self.hosted.start;
        self.tracks[place].enter(token.lap, number as usize);
        if token.visited.count() == self.lanes {
            token.visited.clear();
            token.lap += 1;
        }
        self.pass_on(comm, number, token)?;
        while let Some(lap) = self.tracks[place].end_lap(self.row_blocks.len()) {
            for (lanes, part) in self.merged.end_lap(params, &self.geometry, lane, lap) {
                let head = Packet::Merge { lap, lanes, entries: part.entries.clone() };
                for worker in self.others(comm.rank()) {
                    comm.send(worker, ROTATION, Message::shared(&head, part.body.clone()))?;
                }
            }
            self.merged.merge(params, &self.geometry);
        }
        Ok(())
    }

    fn drain(&mut self, comm: &mut Comm, params: &mut Params, clock: u64) -> Result<()> {
        if self.whole {
            return Ok(()); // nobody has done anything since
        }
        let lap = self.lap_of(clock);
        if self.gathers() {
            self.come_home(comm, params, lap)?;
        }
        if self.spread {
            (self.drained, self.whole) = (lap, true);
            return Ok(());
        }
        if self.copies_lap != lap {
            self.copies.clear();
            self.copies_lap = lap;
        }
        let mut own = BTreeSet::new();
        loop {
            self.copy_out(comm, lap, &mut own)?;
            let wanted = (self.row_blocks.len() - own.len()) * self.rotating.len();
            let there = self.copies.keys().filter(|(number, _)| !own.contains(number)).count();
            let is_merged = self.merged.tables.is_empty() || self.merged.laps >= lap;
            if is_merged && there >= wanted {
                break;
            }
            self.wait(comm, params, "copies of row blocks at a synchronisation point")?;
        }
        self.put_together(params, &own)?;
        self.copies.clear();
        (self.drained, self.whole) = (lap, true);
        Ok(())
    }

    fn collect(&mut self, comm: &mut Comm, params: &mut Params, clock: u64) -> Result<()> {
        match self.spread {
            true => self.bring_together(comm, params, self.lap_of(clock)),
            false => Ok(()),
        }
    }

    fn spread_rows(&self, lane: usize) -> Vec<(usize, usize, &[u8])> {
        self.rows_of(lane)
    }

    fn held_bytes(&self) -> usize {
        let tokens = self
            .held
            .values()
            .chain(self.unfilled.values().map(|(_, token)| token))
            .map(|token| &token.values);
        let rows = tokens.chain(self.away.values().map(|(_, values)| values)).flatten();
        rows.map(|values| values.bytes().len()).sum()
    }

    fn blocked_seconds(&self) -> f64 {
        self.report.blocked_seconds
    }

    fn report(&self) -> Report {
        self.report.clone()
    }

    fn order(&mut self) -> Vec<Visit> {
        self.log.take().unwrap_or_default()
    }
}
