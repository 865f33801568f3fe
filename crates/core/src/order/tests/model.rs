//! The same rules over plain lists: every question is answered by going through all jobs.

use super::*;
use crate::order::Sources;

/// A job, ready or not.
#[derive(Clone, Debug)]
struct Job {
    seq: i64,
    task: Name,
    flow: FlowKey,
    run_at: Timestamp,
    deadline: Option<Timestamp>,
    lane: LaneId,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    Scheduled,
    Ready,
    Late,
    Running,
}

type FlowKey = (Name, u8, Option<Label>);

#[derive(Debug, Default)]
struct Class {
    turn: u64,
    top: u64,
    mark: u64,
}

#[derive(Debug, Default)]
struct QueueState {
    turn: u64,
    mark: u64,
    pace: Pace,
    rule: QueueRule,
}

#[derive(Debug, Default)]
struct Model {
    now: Timestamp,
    turn: u64,
    jobs: BTreeMap<i64, Job>,
    queues: BTreeMap<Name, QueueState>,
    /// In the order in which they came to have jobs.
    names: Vec<Name>,
    classes: BTreeMap<(Name, u8), Class>,
    flows: BTreeMap<FlowKey, u64>,
}

impl Model {
    fn ready(&self) -> impl Iterator<Item = &Job> {
        self.jobs.values().filter(|job| job.state == State::Ready)
    }

    fn running(&self, is_one: impl Fn(&Job) -> bool) -> u64 {
        let running = self.jobs.values().filter(|job| job.state == State::Running);
        running.filter(|job| is_one(job)).count() as u64
    }

    fn make_ready(&mut self, seq: i64) {
        let key = self.jobs[&seq].flow.clone();
        let (queue, number, _) = &key;
        let (mut in_queue, mut in_class, mut in_flow) = (0, 0, 0);
        for job in self.ready().filter(|job| job.flow.0 == *queue) {
            in_queue += 1;
            in_class += u64::from(job.flow.1 == *number);
            in_flow += u64::from(job.flow == key);
        }
        let of = self.queues.entry(queue.clone()).or_default();
        if in_queue == 0 {
            of.turn = of.turn.max(self.turn);
        }
        let class = self.classes.entry((queue.clone(), *number)).or_default();
        if in_class == 0 {
            class.turn = class.top;
            class.mark = class.mark.max(of.mark + (1 << number));
        }
        let flow = self.flows.entry(key).or_default();
        if in_flow == 0 {
            *flow = (*flow).max(class.turn);
        }
        self.jobs.get_mut(&seq).unwrap().state = State::Ready;
    }

    fn place(&mut self, job: Job) {
        let (seq, run_at) = (job.seq, job.run_at);
        let is_late = job.deadline.is_some_and(|deadline| deadline < self.now);
        self.queues.entry(job.flow.0.clone()).or_default();
        if !self.names.contains(&job.flow.0) {
            self.names.push(job.flow.0.clone());
        }
        self.jobs.insert(seq, job);
        if is_late {
            self.jobs.get_mut(&seq).unwrap().state = State::Late;
        } else if run_at <= self.now {
            self.make_ready(seq);
        }
    }

    fn set_now(&mut self, now: Timestamp) {
        self.now = now;
        let due = self.jobs.values();
        let due = due.filter(|job| job.state == State::Scheduled && job.run_at <= now);
        let mut due: Vec<_> = due.map(|job| (job.run_at, job.seq)).collect();
        due.sort_unstable();
        for (_, seq) in due {
            self.make_ready(seq);
        }
        for job in self.jobs.values_mut() {
            let is_late = job.deadline.is_some_and(|deadline| deadline < now);
            if is_late && job.state != State::Running {
                job.state = State::Late;
            }
        }
    }

    fn may_start(&self, job: &Job) -> bool {
        let of = &self.queues[&job.flow.0];
        let running = self.running(|other| other.flow.0 == job.flow.0);
        let in_group = |other: &Job| (&other.flow.0, &other.flow.2) == (&job.flow.0, &job.flow.2);
        let is_full = |most| job.flow.2.is_some() && self.running(in_group) >= most;
        let is_early = |rate: RateLimit| rate.free_at(rate.clamped(of.pace, self.now)) > self.now;
        !of.rule.paused
            && of.rule.max_concurrency.is_none_or(|most| running < most)
            && !of.rule.group_concurrency.is_some_and(is_full)
            && !of.rule.rate_limit.is_some_and(is_early)
    }

    fn next(&self, tasks: &[Name], queues: Option<&[Name]>) -> Option<i64> {
        let wanted = |job: &&Job| {
            tasks.contains(&job.task)
                && queues.is_none_or(|queues| queues.contains(&job.flow.0))
                && self.may_start(job)
        };
        let jobs = self.ready().filter(wanted);
        let first = jobs.min_by_key(|job| {
            let (queue, number, _) = &job.flow;
            let mark = self.classes[&(queue.clone(), *number)].mark;
            let number_of_queue = self.names.iter().position(|name| name == queue);
            let by_queue = (self.queues[queue].turn, number_of_queue);
            let by_turn = (self.flows[&job.flow], job.run_at, job.seq);
            (by_queue, (mark, *number), by_turn)
        });
        first.map(|job| job.seq)
    }

    fn start(&mut self, seq: i64) {
        let key = self.jobs[&seq].flow.clone();
        let now = self.now;
        let of = self.queues.get_mut(&key.0).unwrap();
        let class = self.classes.get_mut(&(key.0.clone(), key.1)).unwrap();
        let flow = self.flows.get_mut(&key).unwrap();
        class.turn = class.turn.max(*flow);
        *flow = class.turn + 1;
        class.top = class.top.max(*flow);
        of.mark = of.mark.max(class.mark);
        class.mark = of.mark + (1 << key.1);
        self.turn = self.turn.max(of.turn);
        of.turn = self.turn + 1;
        if let Some(rate) = of.rule.rate_limit {
            of.pace = rate.after_one(rate.clamped(of.pace, now), now);
        }
        self.jobs.get_mut(&seq).unwrap().state = State::Running;
    }

    /// Returns the jobs ahead of one: of more urgent priorities, and those of its own that come
    /// before it where each flow has a job at a turn.
    fn position(&self, seq: i64) -> Option<u64> {
        let job = self
            .jobs
            .get(&seq)
            .filter(|job| job.state == State::Ready)?;
        let key = |of: &Job| {
            let before = self.ready().filter(|other| {
                other.flow == of.flow && (other.run_at, other.seq) < (of.run_at, of.seq)
            });
            let class = &self.classes[&(of.flow.0.clone(), of.flow.1)];
            let first = self.flows[&of.flow];
            let turn = match before.count() as u64 {
                0 => first,
                rank => first.max(class.turn) + rank,
            };
            (turn, of.run_at, of.seq)
        };
        let own = key(job);
        let ahead = self.ready().filter(|other| {
            let same = other.flow.0 == job.flow.0;
            same && (other.flow.1 < job.flow.1 || (other.flow.1 == job.flow.1 && key(other) < own))
        });
        Some(ahead.count() as u64)
    }
}

/// The order and the model side by side.
struct Pair {
    order: Order,
    model: Model,
    random: fastrand::Rng,
    last: i64,
}

impl Pair {
    fn waiting(job: &Job) -> Waiting {
        Waiting {
            seq: job.seq,
            lane: job.lane,
            run_at: job.run_at,
            deadline: job.deadline,
        }
    }

    fn submit(&mut self) {
        let random = &mut self.random;
        let queue = name(["q", "r", "s"][random.usize(0..3)]);
        let group = [None, Some(label("g")), Some(label("h")), Some(label("i"))];
        let group = group[random.usize(0..4)].clone();
        let task = name(["a", "b"][random.usize(0..2)]);
        let number = [0, 4, 5, 5, 5, 9][random.usize(0..6)];
        let run_at = self.model.now.as_millis() + random.i64(-50..20);
        let deadline = (random.u8(0..6) == 0).then(|| at(run_at + random.i64(0..100)));
        self.last += 1;
        let lane = self
            .order
            .lane(&task, &queue, group.as_ref(), priority(number));
        let job = Job {
            seq: self.last,
            task,
            flow: (queue, number, group),
            run_at: at(run_at),
            deadline,
            lane,
            state: State::Scheduled,
        };
        self.order.place(Self::waiting(&job));
        self.model.place(job);
    }

    fn claim(&mut self) {
        let tasks = [vec![name("a")], vec![name("b"), name("a")]];
        let tasks = &tasks[self.random.usize(0..2)];
        let queues = [
            None,
            Some(vec![name("r")]),
            Some(vec![name("s"), name("q")]),
        ];
        let queues = queues[self.random.usize(0..3)].as_deref();
        for _ in 0..self.random.u8(1..4) {
            let sources: Sources = self.order.sources(tasks, queues);
            let next = self.order.next(&sources);
            let seq = next.map(|(seq, _)| seq);
            assert_eq!(seq, self.model.next(tasks, queues));
            let Some((seq, lane)) = next else {
                return;
            };
            let job = Self::waiting(&self.model.jobs[&seq]);
            assert_eq!(job.lane, lane);
            if self.random.u8(0..20) == 0 {
                // As where its transaction failed. Turns need not be the same afterwards.
                continue;
            }
            self.order.start(job);
            self.model.start(seq);
        }
    }

    /// Ends or cancels a job, or puts a running one back.
    fn end(&mut self) {
        let jobs: Vec<i64> = self.model.jobs.keys().copied().collect();
        if jobs.is_empty() {
            return;
        }
        let seq = jobs[self.random.usize(0..jobs.len())];
        let mut job = self.model.jobs.remove(&seq).unwrap();
        if job.state != State::Running {
            if self.random.u8(0..3) > 0 {
                self.model.jobs.insert(seq, job);
                return;
            }
            self.order.displace(Self::waiting(&job));
            self.empty_classes();
            return;
        }
        self.order.end(job.lane);
        if self.random.bool() {
            job.deadline = None;
            job.state = State::Scheduled;
            job.run_at = at(self.model.now.as_millis() + self.random.i64(-100..30));
            self.order.place(Self::waiting(&job));
            self.model.place(job);
        }
    }

    /// Nobody waits, so that nobody has waited longer.
    fn empty_classes(&mut self) {
        let model = &mut self.model;
        for ((queue, number), class) in &mut model.classes {
            let mut jobs = model.jobs.values();
            let has_ready = jobs.any(|job| {
                job.state == State::Ready && (&job.flow.0, job.flow.1) == (queue, *number)
            });
            if !has_ready {
                class.turn = class.top;
            }
        }
    }

    fn limit(&mut self) {
        let random = &mut self.random;
        let queue = name(["q", "r"][random.usize(0..2)]);
        let rate_limit = (random.u8(0..3) == 0).then(|| RateLimit {
            limit: random.u32(1..5),
            period: Duration::from_millis(random.u64(1..200)),
        });
        let settings = QueueSettings {
            paused: Some(random.u8(0..6) == 0),
            max_concurrency: random.bool().then(|| random.u64(1..6)),
            group_concurrency: random.bool().then(|| random.u64(1..3)),
            rate_limit,
            max_depth: None,
        };
        self.order.set_queue(&queue, Some(settings));
        let rule = self.order.rule(&queue);
        self.model.queues.entry(queue).or_default().rule = rule;
    }

    fn step(&mut self) {
        match self.random.u8(0..20) {
            0..8 => self.submit(),
            8..13 => self.claim(),
            13..17 => self.end(),
            17 => self.limit(),
            _ => {
                let now = at(self.model.now.as_millis() + self.random.i64(0..40));
                assert!(self.order.set_now(now, usize::MAX));
                self.model.set_now(now);
                self.empty_classes();
            }
        }
        self.order.tidy();
        self.empty_classes();
    }

    fn check(&self) {
        for job in self.model.jobs.values() {
            if job.state == State::Running {
                continue;
            }
            let place = self.order.place_of(Self::waiting(job));
            let position = place.position.map(|position| position.ahead);
            assert_eq!(position, self.model.position(job.seq), "{job:?}");
            let in_queue = |other: &Job| other.flow.0 == job.flow.0;
            assert_eq!(place.running, self.model.running(in_queue));
            let ready = self.model.ready().filter(|other| in_queue(other)).count();
            assert_eq!(place.ready, ready as u64);
        }
        let waiting = |queue: &Name| {
            let jobs = self.model.jobs.values();
            let waiting = jobs.filter(|job| job.flow.0 == *queue && job.state != State::Running);
            waiting.count() as u64
        };
        for queue in self.model.queues.keys() {
            assert_eq!(self.order.waiting(queue), waiting(queue), "{queue}");
        }
    }
}

#[test]
fn it_agrees_with_plain_lists_whatever_happens() {
    for seed in 0..24 {
        let now = at(1_000);
        let mut pair = Pair {
            order: Order::new(now),
            model: Model {
                now,
                ..Model::default()
            },
            random: fastrand::Rng::with_seed(seed),
            last: 0,
        };
        for step in 0..400 {
            pair.step();
            if step % 9 == 0 {
                pair.check();
            }
        }
        for job in std::mem::take(&mut pair.model.jobs).into_values() {
            match job.state {
                State::Running => pair.order.end(job.lane),
                State::Scheduled | State::Ready | State::Late => {
                    pair.order.displace(Pair::waiting(&job));
                }
            }
        }
        pair.order.tidy();
        assert!(
            pair.order.lanes.is_empty(),
            "nothing is kept of what is gone"
        );
        assert!(pair.order.tally().is_empty());
    }
}
