//! Who asked to be told of a job's end is told by a job that comes with that end, once.

use super::Trial;
use super::trial::{
    Held, LEASE_FOR, TICK, done, ids, name, payload, poll_once, soon, want, want_and_wait,
};
use crate::callback_of;
use crate::store::{Change, Claimed, Cursor, Filter, Inserted, Page, Refused, Want};
use anteroom_core::limits::CALLBACK_TASK;
use anteroom_core::{
    Amendment, Event, HandBack, Job, JobId, Lease, QueueDefaults, QueueSettings, Rejected, Retry,
    ShownState, State, Status,
};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

const URL: &str = "https://example.org/ended?a=b";
/// More jobs than a page of keys that are looked at for one id.
const MANY: usize = 2_000;

/// The ways to an end.
#[derive(Clone, Copy, Debug)]
enum Way {
    Success,
    FailureForGood,
    LastFailure,
    LeaseRanOut,
    WorkerDied,
    Deadline,
    Cancelled,
    CancelledWhileRunning,
    SucceededAfterCancel,
}

const WAYS: [Way; 9] = [
    Way::Success,
    Way::FailureForGood,
    Way::LastFailure,
    Way::LeaseRanOut,
    Way::WorkerDied,
    Way::Deadline,
    Way::Cancelled,
    Way::CancelledWhileRunning,
    Way::SucceededAfterCancel,
];

/// Submits a job that is given one attempt, and whose end somebody asks about.
async fn submit(trial: &Trial) -> JobId {
    let now = trial.now();
    trial
        .submit(|job| {
            job.spec_mut().callback_url = Some(URL.into());
            job.spec_mut().tags.insert(name("who"), "ann".to_owned());
            job.status = Status::submitted(now, None, 1);
        })
        .await
}

async fn running(trial: &Trial) -> Held {
    submit(trial).await;
    trial.claim_one().await
}

/// Brings a job to its end and returns where it stood before, and the job.
async fn end(trial: &Trial, way: Way) -> (Status, Job) {
    let event = match way {
        Way::Success | Way::SucceededAfterCancel => Held::succeeded,
        Way::FailureForGood => |held: &Held| held.failed(Retry::Never),
        Way::LastFailure => |held: &Held| held.failed(Retry::In(Duration::ZERO)),
        Way::LeaseRanOut => Held::lease_expired,
        Way::WorkerDied => Held::crashed,
        Way::CancelledWhileRunning => |held: &Held| held.released(HandBack::Drain),
        Way::Deadline => {
            let now = trial.now();
            let late = trial.submit(|job| {
                job.spec_mut().callback_url = Some(URL.into());
                job.status = Status::submitted(now, Some(now), 1);
            });
            let id = late.await;
            trial.advance(TICK);
            let before = trial.job(id).await.status;
            return (before, trial.happen(id, Event::DeadlinePassed).await);
        }
        Way::Cancelled => {
            let id = submit(trial).await;
            let before = trial.job(id).await.status;
            return (before, trial.happen(id, Event::CancelRequested).await);
        }
    };
    let held = running(trial).await;
    if matches!(way, Way::CancelledWhileRunning | Way::SucceededAfterCancel) {
        trial.happen(held.id, Event::CancelRequested).await;
    }
    if matches!(way, Way::LeaseRanOut) {
        trial.advance(LEASE_FOR);
    }
    let before = trial.job(held.id).await.status;
    let result = matches!(event(&held), Event::Succeeded { .. });
    let change = Change {
        result: result.then(|| payload("text/plain", "done")),
        ..Change::new(held.id, event(&held))
    };
    (before, trial.applied(change).await)
}

/// Returns the callbacks there are, newest first.
async fn callbacks(trial: &Trial) -> Vec<Job> {
    let filter = Filter {
        task: Some(name(CALLBACK_TASK)),
        ..Filter::default()
    };
    listed(trial, &filter).await
}

async fn listed(trial: &Trial, filter: &Filter) -> Vec<Job> {
    let mut jobs = Vec::new();
    let mut after: Option<Cursor> = None;
    loop {
        let page = Page { size: 700, after };
        let listing = done("list", trial.store().list(filter, page).await);
        jobs.extend(listing.jobs);
        match listing.next {
            None => return jobs,
            next => after = next,
        }
    }
}

fn want_callbacks(limit: usize) -> Want {
    Want {
        tasks: vec![name(CALLBACK_TASK)],
        ..want(limit)
    }
}

/// Every way to an end makes one callback, which is the job that [`callback_of`] gives, ready.
pub async fn every_end_makes_one_callback(trial: &mut Trial) {
    for way in WAYS {
        let known: BTreeSet<JobId> = ids_of(&callbacks(trial).await);
        let (before, job) = end(trial, way).await;
        assert!(job.status.state.is_final(), "{way:?}: {:?}", job.status);
        let Some(expected) = callback_of(&job.spec, &before, &job.status) else {
            panic!("{way:?} is an end");
        };
        let id = expected.spec.id;
        let all = callbacks(trial).await;
        let new: Vec<&Job> = all
            .iter()
            .filter(|job| !known.contains(&job.spec.id))
            .collect();
        assert_eq!(new.len(), 1, "callbacks of {way:?}");
        let made = trial.job(id).await;
        assert_eq!(made.spec, expected.spec, "{way:?}");
        assert_eq!(made.status, expected.status, "{way:?}");
        let input = done("input", trial.store().input(id).await).here();
        assert_eq!(input, Some(expected.input), "{way:?}");
    }
    let claimed = trial.claim(want_callbacks(100)).await;
    assert_eq!(ids_of_claimed(&claimed), ids_of(&callbacks(trial).await));
}

fn ids_of(jobs: &[Job]) -> BTreeSet<JobId> {
    jobs.iter().map(|job| job.spec.id).collect()
}

fn ids_of_claimed(claimed: &[Claimed]) -> BTreeSet<JobId> {
    ids(claimed).into_iter().collect()
}

/// What is no end makes no callback, and neither does the end of a job that nobody asks about.
pub async fn what_is_no_end_makes_no_callback(trial: &mut Trial) {
    let now = trial.now();
    let id = trial
        .submit(|job| job.spec_mut().callback_url = Some(URL.into()))
        .await;
    let amendment = Box::new(Amendment {
        tags: Some(BTreeMap::new()),
        ..Amendment::default()
    });
    trial.happen(id, Event::Amended { amendment }).await;
    let held = trial.claim_one().await;
    trial.happen(id, held.extended(now.after(LEASE_FOR))).await;
    trial.say(&held, Vec::new()).await;
    trial.happen(id, held.released(HandBack::Busy)).await;
    let held = trial.claim_one().await;
    trial
        .happen(id, held.failed(Retry::In(Duration::ZERO)))
        .await;
    let held = trial.claim_one().await;
    trial.happen(id, Event::CancelRequested).await;
    assert_eq!(held.id, id);
    let plain = trial.submit_plain().await;
    trial.happen(plain, Event::CancelRequested).await;
    assert_eq!(callbacks(trial).await, []);
}

/// A change that is refused makes no callback, and one that is asked for again no second one.
pub async fn a_refused_change_makes_no_callback(trial: &mut Trial) {
    let held = running(trial).await;
    let other_version = Change {
        if_version: Some(77),
        ..held.success(payload("text/plain", ""))
    };
    let refused = trial.apply(other_version).await;
    assert!(
        matches!(refused, Err(Refused::VersionDiffers(_))),
        "{refused:?}"
    );
    let not_yet = trial
        .apply(Change::new(held.id, held.lease_expired()))
        .await;
    assert!(
        matches!(not_yet, Err(Refused::Rejected(Rejected::NotYet, _))),
        "{not_yet:?}"
    );
    assert_eq!(callbacks(trial).await, []);
    let success = held.success(payload("text/plain", ""));
    let twice = trial
        .apply_all(vec![success.clone(), success.clone()])
        .await;
    assert!(twice[0].is_ok() && twice[1].is_err(), "{twice:?}");
    assert!(trial.apply(success).await.is_err());
    assert!(
        trial
            .apply(Change::new(held.id, Event::CancelRequested))
            .await
            .is_err()
    );
    assert_eq!(callbacks(trial).await.len(), 1);
}

/// A job that is retried has another end, and who asked is told of that too, also within the same
/// instant. The end of a callback is told to nobody.
pub async fn each_end_makes_a_callback_of_its_own(trial: &mut Trial) {
    let (_, job) = end(trial, Way::FailureForGood).await;
    let id = job.spec.id;
    trial.happen(id, Event::RetryRequested).await;
    trial.happen(id, Event::CancelRequested).await;
    trial.happen(id, Event::RetryRequested).await;
    let held = trial.claim_one().await;
    trial
        .applied(held.success(payload("text/plain", "at last")))
        .await;
    let all = callbacks(trial).await;
    assert_eq!(all.len(), 3);
    for callback in trial.claim(want_callbacks(10)).await {
        let held = Held::from(callback);
        trial.happen(held.id, held.failed(Retry::Never)).await;
        trial.happen(held.id, Event::RetryRequested).await;
        trial.happen(held.id, Event::CancelRequested).await;
    }
    assert_eq!(ids_of(&callbacks(trial).await), ids_of(&all));
}

/// A claim that waits for callbacks gets one as soon as there is one, as if it were inserted.
pub async fn a_waiting_claim_gets_a_callback_at_once(trial: &mut Trial) {
    let held = running(trial).await;
    let want = Want {
        tasks: vec![name(CALLBACK_TASK)],
        ..want_and_wait(5)
    };
    let mut waiting = trial.store().claim(want);
    assert!(poll_once(waiting.as_mut()).await.is_pending());
    trial.round_trip().await;
    trial.applied(held.success(payload("text/plain", ""))).await;
    let claimed = done("claim", soon("the waiting claim", waiting).await);
    assert_eq!(claimed.len(), 1);
    assert_eq!(claimed[0].job.status.state, State::Running);
}

/// No pause, hold or limit keeps callbacks back: nobody could undo it.
pub async fn nothing_holds_callbacks_back(trial: &mut Trial) {
    let held = running(trial).await;
    let settings = QueueSettings {
        paused: Some(true),
        max_depth: Some(0),
        ..QueueSettings::default()
    };
    let defaults = QueueDefaults {
        of: BTreeMap::from([(name("queue"), settings), (name(CALLBACK_TASK), settings)]),
        hold: true,
        released: BTreeSet::new(),
    };
    let configured = trial.store().configure_queues(defaults).await;
    done("configure_queues", configured);
    trial.applied(held.success(payload("text/plain", ""))).await;
    assert_eq!(trial.claim(want_callbacks(5)).await.len(), 1);
}

/// However many jobs end in one commit, at one instant, each of them has its callback, and jobs that
/// are submitted at that instant find their place.
pub async fn many_ends_at_once_make_as_many_callbacks(trial: &mut Trial) {
    let mut jobs: Vec<_> = (0..MANY).map(|_| trial.new_job()).collect();
    for job in &mut jobs {
        job.spec_mut().callback_url = Some(URL.into());
    }
    let cancels = jobs
        .iter()
        .map(|job| Change::new(job.spec.id, Event::CancelRequested));
    let cancels: Vec<_> = cancels.collect();
    trial.insert(jobs).await;
    for applied in trial.apply_all(cancels).await {
        assert!(applied.is_ok(), "{applied:?}");
    }
    let made = callbacks(trial).await;
    assert_eq!((made.len(), ids_of(&made).len()), (MANY, MANY));
    for job in [&made[0], &made[MANY / 2], &made[MANY - 1]] {
        assert_eq!(trial.job(job.spec.id).await, *job);
    }
    let later = trial.new_job();
    let inserted = done("insert", trial.store().insert(vec![later]).await);
    assert!(matches!(*inserted, [Inserted::New(_)]), "{inserted:?}");
    let claimed = trial.claim(want_callbacks(MANY)).await;
    assert_eq!(ids_of_claimed(&claimed), ids_of(&made));
}

/// Callbacks are listed where they are asked for by name, and nowhere else; a page is none the
/// emptier for them.
pub async fn callbacks_are_listed_by_name_only(trial: &mut Trial) {
    let mut all = BTreeSet::new();
    for _ in 0..3 {
        all.insert(end(trial, Way::Cancelled).await.1.spec.id);
        trial.advance(TICK);
    }
    assert_eq!(callbacks(trial).await.len(), 3);
    let finished = Filter {
        states: vec![ShownState::Cancelled],
        ..Filter::default()
    };
    let of_any = Filter {
        tasks_allowed: Some(vec![name("task"), name(CALLBACK_TASK)]),
        ..Filter::default()
    };
    for filter in [Filter::default(), finished, of_any] {
        assert_eq!(ids_of(&listed(trial, &filter).await), all, "{filter:?}");
        let page = Page {
            size: 3,
            after: None,
        };
        let listing = done("list", trial.store().list(&filter, page).await);
        assert_eq!(ids_of(&listing.jobs), all, "a page of {filter:?}");
    }
    let of_queue = Filter {
        queue: Some(name(CALLBACK_TASK)),
        ..Filter::default()
    };
    assert_eq!(listed(trial, &of_queue).await, []);
    let nobodys = Filter {
        tasks_allowed: Some(vec![name("task")]),
        task: Some(name(CALLBACK_TASK)),
        ..Filter::default()
    };
    assert_eq!(listed(trial, &nobodys).await, []);
}

/// A callback is as durable as the end that it tells of.
pub async fn a_callback_survives_a_reopen(trial: &mut Trial) {
    let held = trial.running(Lease::Pulled).await;
    trial.happen(held.id, held.succeeded()).await;
    end(trial, Way::Success).await;
    let before = callbacks(trial).await;
    if !trial.reopen().await {
        return;
    }
    assert_eq!(callbacks(trial).await, before);
    let claimed = trial.claim(want_callbacks(5)).await;
    assert_eq!(ids_of_claimed(&claimed), ids_of(&before));
    assert_eq!(before.len(), 1);
}
