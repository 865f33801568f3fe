//! Writes histories that are right: a small model of a server with clients, kills and retries.

use anteroom_faults::history::check::Checker;
use anteroom_faults::history::merge::Placed;
use anteroom_faults::history::{Bounds, Ended, Event, FaultKind, Line, Read, Report, Seen, Submit};
use std::collections::HashMap;

/// The monotonic time at which every history begins.
const BEGIN_US: u64 = 1_000_000_000_000;
/// How far the Unix time is from the monotonic one.
pub(crate) const WALL_AHEAD_US: u64 = 1_700_000_000_000_000;
const KILLS: u64 = 8;
const KILL_EVERY_US: u64 = 1_000_000;
const DOWN_US: u64 = 80_000;

/// What happened at what time, by whom; not yet numbered.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) party: String,
    pub(crate) at_us: u64,
    pub(crate) event: Event,
}

/// A history in the order of its times.
pub(crate) type History = Vec<Entry>;

/// Writes the history of `jobs` jobs of each kind.
pub(crate) fn history(seed: u64, jobs: u64) -> History {
    let mut world = World {
        random: fastrand::Rng::with_seed(seed),
        entries: Vec::new(),
        calls: 0,
        claims: 0,
        jobs: 0,
    };
    for kill in 0..KILLS {
        let fault = Event::Fault {
            kind: FaultKind::Kill,
            node: Some(node(kill + 1)),
        };
        world.note("injector", BEGIN_US + (kill + 1) * KILL_EVERY_US, fault);
    }
    for _ in 0..jobs {
        world.plain();
        world.keyed();
        world.failing();
        world.cancelled();
        world.retried_after(Seen::Failed);
        world.retried_after(Seen::Cancelled);
        world.scheduled();
        world.forgotten();
        world.unknown();
        world.refused();
    }
    let mut entries = world.entries;
    entries.sort_by_key(|entry| entry.at_us);
    entries
}

/// Numbers the lines and checks them.
pub(crate) fn check(history: &[Entry], bounds: &Bounds) -> Report {
    let mut checker = Checker::new(bounds.clone());
    for line in numbered(history) {
        let place = format!("{}:{}", line.party, line.seq);
        checker.take(&Placed { line, place });
    }
    checker.finish()
}

/// Gives each line the next number of its party.
pub(crate) fn numbered(history: &[Entry]) -> impl Iterator<Item = Line> {
    let mut parties: HashMap<&str, u64> = HashMap::new();
    history.iter().map(move |entry| {
        let seq = parties.entry(&entry.party).or_default();
        *seq += 1;
        Line {
            party: entry.party.clone(),
            seq: *seq,
            wall_us: entry.at_us + WALL_AHEAD_US,
            mono_us: entry.at_us,
            event: entry.event.clone(),
        }
    })
}

/// Returns the only right result of a body.
fn result_of(body: &str) -> String {
    format!("result of {body}")
}

struct World {
    random: fastrand::Rng,
    entries: History,
    calls: u64,
    claims: u64,
    jobs: u64,
}

impl World {
    fn note(&mut self, party: &str, at_us: u64, event: Event) {
        self.entries.push(Entry {
            party: party.to_owned(),
            at_us,
            event,
        });
    }

    /// Moves on by a little; not into a time when the server is down.
    fn step(&mut self, at_us: &mut u64) -> u64 {
        *at_us = up(*at_us + self.random.u64(50..20_000));
        *at_us
    }

    fn begin(&mut self) -> (String, Submit, u64) {
        self.jobs += 1;
        self.calls += 1;
        let body = format!("body {}", self.jobs);
        let submit = Submit {
            call: self.calls,
            task: "digest".to_owned(),
            expected: Some(result_of(&body)),
            body,
            ..Submit::default()
        };
        let at_us = up(BEGIN_US + self.random.u64(0..KILLS * KILL_EVERY_US));
        (format!("job-{:04}", self.jobs), submit, at_us)
    }

    fn client(&self) -> String {
        format!("client-{}", self.jobs % 3)
    }

    fn submit(&mut self, submit: &Submit, id: &str, at_us: &mut u64) {
        let (client, call) = (self.client(), submit.call);
        self.note(&client, *at_us, Event::Submit(submit.clone()));
        let ack = Event::Ack {
            call,
            id: id.to_owned(),
            duplicate: false,
        };
        let at = self.step(at_us);
        self.note(&client, at, ack);
    }

    /// Runs attempts until one ends undisturbed, and returns its number.
    fn attempts(&mut self, id: &str, body: &str, end: Ended, first: u32, at_us: &mut u64) -> u32 {
        for attempt in first.. {
            let start_us = self.step(at_us);
            self.claims += 1;
            let opening = opening(start_us);
            let claim = (opening << 40) + self.claims;
            let party = format!("server-{opening}");
            let start = Event::Start {
                id: id.to_owned(),
                attempt,
                claim,
                node: node(opening),
                body: body.to_owned(),
            };
            self.note(&party, start_us, start);
            let end_us = start_us + self.random.u64(100..150_000);
            if self.random.bool() && end_us > start_us + 20_000 {
                self.get(id, Seen::Running, Some(attempt), None, start_us + 5_000);
            }
            if opening != self::opening(end_us) || is_down(end_us) {
                *at_us = up(end_us);
                continue;
            }
            let result = (end == Ended::Succeeded).then(|| result_of(body));
            let ended = Event::End {
                id: id.to_owned(),
                attempt,
                claim,
                outcome: end,
                result,
            };
            self.note(&party, end_us, ended);
            *at_us = end_us;
            let settle_us = end_us + self.random.u64(50..30_000);
            if is_down(settle_us) || opening != self::opening(settle_us) {
                // Killed between the end and its commit: it is run again.
                *at_us = up(settle_us);
                continue;
            }
            let settle = Event::Settle {
                id: id.to_owned(),
                claim,
                succeeded: end == Ended::Succeeded,
                accepted: true,
            };
            self.note(&party, settle_us, settle);
            *at_us = settle_us;
            return attempt;
        }
        unreachable!("there are fewer kills than attempts")
    }

    fn get(
        &mut self,
        id: &str,
        state: Seen,
        attempt: Option<u32>,
        result: Option<String>,
        at_us: u64,
    ) {
        // A read that a kill falls into has no answer.
        if is_down(at_us) {
            return;
        }
        let read = Read {
            id: id.to_owned(),
            sent_us: at_us - 40,
            state,
            attempt,
            result,
        };
        let reader = format!("reader-{}", self.jobs % 2);
        self.note(&reader, at_us, Event::Get(read));
    }

    fn read_result(&mut self, id: &str, body: &str, attempt: u32, at_us: &mut u64) {
        for _ in 0..self.random.usize(1..=2) {
            let at = self.step(at_us);
            let result = self.random.u8(0..4) > 0;
            let result = result.then(|| result_of(body));
            self.get(id, Seen::Succeeded, Some(attempt), result, at);
        }
    }

    fn plain(&mut self) {
        let (id, submit, mut at_us) = self.begin();
        self.submit(&submit, &id, &mut at_us);
        if self.random.bool() {
            let at = self.step(&mut at_us);
            self.get(&id, Seen::Ready, Some(0), None, at);
        }
        let attempt = self.attempts(&id, &submit.body, Ended::Succeeded, 1, &mut at_us);
        self.read_result(&id, &submit.body, attempt, &mut at_us);
    }

    /// The first submit's fate is unknown; it is repeated with its key, twice.
    fn keyed(&mut self) {
        let (id, mut submit, mut at_us) = self.begin();
        submit.key = Some(format!("key of {id}"));
        let client = self.client();
        self.note(&client, at_us, Event::Submit(submit.clone()));
        let unknown = Event::Unknown { call: submit.call };
        let at = self.step(&mut at_us);
        self.note(&client, at, unknown);
        for _ in 0..2 {
            self.calls += 1;
            submit.call = self.calls;
            self.step(&mut at_us);
            self.submit(&submit, &id, &mut at_us);
        }
        let attempt = self.attempts(&id, &submit.body, Ended::Succeeded, 1, &mut at_us);
        self.read_result(&id, &submit.body, attempt, &mut at_us);
    }

    fn failing(&mut self) {
        let (id, submit, mut at_us) = self.begin();
        self.submit(&submit, &id, &mut at_us);
        let attempt = self.attempts(&id, &submit.body, Ended::Failed, 1, &mut at_us);
        let at = self.step(&mut at_us);
        self.get(&id, Seen::Scheduled, Some(attempt), None, at);
        let next = attempt + 1;
        let attempt = self.attempts(&id, &submit.body, Ended::Succeeded, next, &mut at_us);
        self.read_result(&id, &submit.body, attempt, &mut at_us);
    }

    fn cancel(&mut self, id: &str, at_us: &mut u64) {
        let client = self.client();
        let at = self.step(at_us);
        self.note(&client, at, Event::CancelRequest { id: id.to_owned() });
        let reply = Event::CancelReply {
            id: id.to_owned(),
            status: 200,
            state: Seen::Cancelled,
        };
        let at = self.step(at_us);
        self.note(&client, at, reply);
    }

    fn cancelled(&mut self) {
        let (id, submit, mut at_us) = self.begin();
        self.submit(&submit, &id, &mut at_us);
        self.cancel(&id, &mut at_us);
        if self.random.bool() {
            let at = self.step(&mut at_us);
            self.get(&id, Seen::Cancelled, Some(0), None, at);
        }
    }

    fn retried_after(&mut self, state: Seen) {
        let (id, submit, mut at_us) = self.begin();
        self.submit(&submit, &id, &mut at_us);
        let mut attempt = 0;
        if state == Seen::Failed {
            attempt = self.attempts(&id, &submit.body, Ended::Failed, 1, &mut at_us);
            let at = self.step(&mut at_us);
            self.get(&id, Seen::Failed, Some(attempt), None, at);
        } else {
            self.cancel(&id, &mut at_us);
            at_us = up(at_us + 1_100_000);
        }
        let at = self.step(&mut at_us);
        let client = self.client();
        self.note(&client, at, Event::RetryRequest { id: id.clone() });
        let next = attempt + 1;
        let attempt = self.attempts(&id, &submit.body, Ended::Succeeded, next, &mut at_us);
        self.read_result(&id, &submit.body, attempt, &mut at_us);
    }

    fn scheduled(&mut self) {
        let (id, mut submit, mut at_us) = self.begin();
        let run_at_us = at_us + 200_000;
        submit.run_at_us = Some(run_at_us + WALL_AHEAD_US);
        self.submit(&submit, &id, &mut at_us);
        let at = self.step(&mut at_us);
        self.get(&id, Seen::Scheduled, Some(0), None, at);
        at_us = up(at_us.max(run_at_us));
        let attempt = self.attempts(&id, &submit.body, Ended::Succeeded, 1, &mut at_us);
        self.read_result(&id, &submit.body, attempt, &mut at_us);
    }

    /// Nobody reads the job before its retention is over.
    fn forgotten(&mut self) {
        let (id, mut submit, mut at_us) = self.begin();
        submit.retain_us = Some(300_000);
        self.submit(&submit, &id, &mut at_us);
        self.attempts(&id, &submit.body, Ended::Succeeded, 1, &mut at_us);
        at_us = up(at_us + 300_000);
        let at = self.step(&mut at_us);
        self.get(&id, Seen::Gone, None, None, at);
    }

    fn unknown(&mut self) {
        let (id, submit, mut at_us) = self.begin();
        let client = self.client();
        self.note(&client, at_us, Event::Submit(submit.clone()));
        let at = self.step(&mut at_us);
        self.note(&client, at, Event::Unknown { call: submit.call });
        if self.random.bool() {
            self.attempts(&id, &submit.body, Ended::Succeeded, 1, &mut at_us);
        }
    }

    fn refused(&mut self) {
        let (_, submit, mut at_us) = self.begin();
        let client = self.client();
        self.note(&client, at_us, Event::Submit(submit.clone()));
        let refused = Event::Refused {
            call: submit.call,
            status: 429,
        };
        let at = self.step(&mut at_us);
        self.note(&client, at, refused);
    }
}

/// Names the process that opened the store as the `opening`-th.
fn node(opening: u64) -> String {
    format!("n1-{opening}")
}

/// How often the server was opened by then.
fn opening(at_us: u64) -> u64 {
    ((at_us - BEGIN_US) / KILL_EVERY_US).min(KILLS) + 1
}

fn is_down(at_us: u64) -> bool {
    let since_us = (at_us - BEGIN_US) % KILL_EVERY_US;
    let kills = (at_us - BEGIN_US) / KILL_EVERY_US;
    (1..=KILLS).contains(&kills) && since_us < DOWN_US
}

/// Returns the time, or when the server is up again.
fn up(at_us: u64) -> u64 {
    if is_down(at_us) {
        at_us - (at_us - BEGIN_US) % KILL_EVERY_US + DOWN_US
    } else {
        at_us
    }
}
