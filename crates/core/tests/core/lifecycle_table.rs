//! Every state against every event, then the rules one by one.

use crate::harness::{
    CLAIM, EARLIER_CLAIM, LATER_CLAIM, after_all, at, claimed, extended, failed, lease_expired,
    moved_to, released, reported, succeeded, ticks, timed_out, worker_crashed,
};
use anteroom_core::limits::HAND_BACKS_FREE;
use anteroom_core::{
    Amendment, ClaimNumber, Event, FailureKind, HandBack, Lease, Name, Priority, Rejected, Retry,
    ShownState, State, Status, transition,
};

/// The time at which the table's events happen. Leases that are good last until 200, others ran
/// out at 100.
const NOW: i64 = 100;

fn submitted() -> Status {
    Status::submitted(at(0), None, 3)
}

fn running(lease: Lease, expires: i64) -> Status {
    after_all(submitted(), [(10, claimed(CLAIM, lease, expires))])
}

fn cancelling() -> Status {
    after_all(running(Lease::Node, 200), [(50, Event::CancelRequested)])
}

/// Every place in a job's life that some event treats differently from the others.
fn statuses() -> [(&'static str, Status); 14] {
    let node = running(Lease::Node, 200);
    [
        ("scheduled", Status::submitted(at(101), None, 3)),
        ("due just now", Status::submitted(at(100), None, 3)),
        ("too late", Status::submitted(at(0), Some(at(99)), 3)),
        (
            "scheduled and too late",
            Status::submitted(at(101), Some(at(99)), 3),
        ),
        ("node", node),
        ("node, ran out", running(Lease::Node, 100)),
        ("pulled", running(Lease::Pulled, 101)),
        ("pulled, ran out", running(Lease::Pulled, 100)),
        ("last attempt", Status { attempt: 3, ..node }),
        ("told to stop", cancelling()),
        ("between attempts", {
            after_all(node, [(50, failed(CLAIM, Retry::In(ticks(51))))])
        }),
        ("succeeded", after_all(node, [(50, succeeded(CLAIM))])),
        (
            "failed",
            after_all(node, [(50, failed(CLAIM, Retry::Never))]),
        ),
        (
            "cancelled",
            after_all(submitted(), [(50, Event::CancelRequested)]),
        ),
    ]
}

/// What an event makes of each of [`statuses`], in their order.
type Row = (Event, [Result<State, Rejected>; 14]);

#[rustfmt::skip]
#[expect(clippy::too_many_lines, reason = "a table, with a row for each event")]
fn table() -> Vec<Row> {
    use Rejected::{
        AlreadyFinal, AlreadyRequested, AlreadySucceeded, LeaseLost, NotDue, NotWaiting, NotYet,
        NothingToRetry, TooLate,
    };
    use State::{Cancelled, Failed, Running, Succeeded, Waiting};
    let lost = Err(LeaseLost);
    let nothing = Err(NothingToRetry);
    let fixed = Err(NotWaiting);
    let never = Retry::Never;
    let again = Retry::In(ticks(5));
    // scheduled, due just now, too late, scheduled and too late,
    // node, node ran out, pulled, pulled ran out,
    // last attempt, told to stop, between attempts,
    // succeeded, failed, cancelled
    vec![
        (claimed(LATER_CLAIM, Lease::Node, 200), [
            Err(NotDue), Ok(Running), Err(TooLate), Err(NotDue),
            Err(NotWaiting), Err(NotWaiting), Err(NotWaiting), Err(NotWaiting),
            Err(NotWaiting), Err(NotWaiting), Err(NotDue),
            Err(NotWaiting), Err(NotWaiting), Err(NotWaiting),
        ]),
        (extended(CLAIM, 300), [
            lost, lost, lost, lost,
            Ok(Running), Ok(Running), Ok(Running), lost,
            Ok(Running), Ok(Running), lost,
            lost, lost, lost,
        ]),
        (reported(CLAIM), [
            lost, lost, lost, lost,
            Ok(Running), Ok(Running), Ok(Running), lost,
            Ok(Running), Ok(Running), lost,
            lost, lost, lost,
        ]),
        (succeeded(CLAIM), [
            lost, lost, lost, lost,
            Ok(Succeeded), Ok(Succeeded), Ok(Succeeded), lost,
            Ok(Succeeded), Ok(Succeeded), lost,
            lost, lost, lost,
        ]),
        (failed(CLAIM, again), [
            lost, lost, lost, lost,
            Ok(Waiting), Ok(Waiting), Ok(Waiting), lost,
            Ok(Failed), Ok(Cancelled), lost,
            lost, lost, lost,
        ]),
        (failed(CLAIM, never), [
            lost, lost, lost, lost,
            Ok(Failed), Ok(Failed), Ok(Failed), lost,
            Ok(Failed), Ok(Cancelled), lost,
            lost, lost, lost,
        ]),
        (released(CLAIM, HandBack::Busy), [
            lost, lost, lost, lost,
            Ok(Waiting), Ok(Waiting), Ok(Waiting), lost,
            Ok(Waiting), Ok(Cancelled), lost,
            lost, lost, lost,
        ]),
        (released(CLAIM, HandBack::Drain), [
            lost, lost, lost, lost,
            Ok(Waiting), Ok(Waiting), Ok(Waiting), lost,
            Ok(Waiting), Ok(Cancelled), lost,
            lost, lost, lost,
        ]),
        (lease_expired(CLAIM), [
            lost, lost, lost, lost,
            Err(NotYet), Ok(Waiting), Err(NotYet), Ok(Waiting),
            Err(NotYet), Err(NotYet), lost,
            lost, lost, lost,
        ]),
        (worker_crashed(CLAIM), [
            lost, lost, lost, lost,
            Ok(Waiting), Ok(Waiting), Err(NotYet), Err(NotYet),
            Ok(Failed), Ok(Cancelled), lost,
            lost, lost, lost,
        ]),
        (Event::CancelRequested, [
            Ok(Cancelled), Ok(Cancelled), Ok(Cancelled), Ok(Cancelled),
            Ok(Running), Ok(Running), Ok(Running), Ok(Running),
            Ok(Running), Err(AlreadyRequested), Ok(Cancelled),
            Err(AlreadyFinal), Err(AlreadyFinal), Err(AlreadyFinal),
        ]),
        (Event::RetryRequested, [
            Ok(Waiting), nothing, nothing, Ok(Waiting),
            nothing, nothing, nothing, nothing,
            nothing, nothing, Ok(Waiting),
            Err(AlreadySucceeded), Ok(Waiting), Ok(Waiting),
        ]),
        (moved_to(300), [
            Ok(Waiting), Ok(Waiting), Ok(Waiting), Ok(Waiting),
            fixed, fixed, fixed, fixed,
            fixed, fixed, Ok(Waiting),
            fixed, fixed, fixed,
        ]),
        (Event::Amended { amendment: Box::default() }, [
            Ok(Waiting), Ok(Waiting), Ok(Waiting), Ok(Waiting),
            fixed, fixed, fixed, fixed,
            fixed, fixed, Ok(Waiting),
            fixed, fixed, fixed,
        ]),
        (Event::DeadlinePassed, [
            Err(NotYet), Err(NotYet), Ok(Failed), Ok(Failed),
            Err(NotYet), Err(NotYet), Err(NotYet), Err(NotYet),
            Err(NotYet), Err(NotYet), Err(NotYet),
            Err(NotYet), Err(NotYet), Err(NotYet),
        ]),
    ]
}

#[test]
fn every_state_answers_every_event() {
    for (event, row) in table() {
        for ((name, status), expected) in statuses().into_iter().zip(row) {
            let got = transition(&status, &event, at(NOW)).map(|next| next.status.state);
            assert_eq!(got, expected, "{name} <- {event:?}");
        }
    }
}

/// The fence: a number that is not the current claim's changes nothing, older or newer.
#[test]
fn a_worker_without_the_current_claim_changes_nothing() {
    for claim in [ClaimNumber::NONE, EARLIER_CLAIM, LATER_CLAIM] {
        for event in [
            extended(claim, 300),
            reported(claim),
            succeeded(claim),
            failed(claim, Retry::Never),
            failed(claim, Retry::In(ticks(0))),
            released(claim, HandBack::Busy),
            released(claim, HandBack::Drain),
            lease_expired(claim),
            worker_crashed(claim),
        ] {
            for (name, status) in statuses() {
                let got = transition(&status, &event, at(NOW));
                assert_eq!(got, Err(Rejected::LeaseLost), "{name} <- {event:?}");
            }
        }
    }
}

/// After a hand-back the attempt has the same number again, so that only the claim tells the two
/// workers apart.
#[test]
fn a_late_worker_of_the_same_attempt_number_changes_nothing() {
    let second = after_all(
        running(Lease::Node, 200),
        [
            (20, released(CLAIM, HandBack::Drain)),
            (30, claimed(LATER_CLAIM, Lease::Node, 200)),
        ],
    );
    assert_eq!(second.attempt, 1);
    let late = transition(&second, &succeeded(CLAIM), at(40));
    assert_eq!(late, Err(Rejected::LeaseLost));
    assert!(transition(&second, &succeeded(LATER_CLAIM), at(40)).is_ok());
}

#[test]
fn a_claim_number_is_drawn_once() {
    let waiting = after_all(
        running(Lease::Node, 200),
        [(20, released(CLAIM, HandBack::Drain))],
    );
    for (claim, expected) in [
        (EARLIER_CLAIM, Err(Rejected::LeaseLost)),
        (CLAIM, Err(Rejected::LeaseLost)),
        (LATER_CLAIM, Ok(State::Running)),
    ] {
        let event = claimed(claim, Lease::Node, 200);
        let got = transition(&waiting, &event, at(30)).map(|next| next.status.state);
        assert_eq!(got, expected, "{claim}");
    }
}

#[test]
fn a_claim_begins_an_attempt() {
    let next = transition(&submitted(), &claimed(CLAIM, Lease::Pulled, 40), at(10)).unwrap();
    let expected = Status {
        state: State::Running,
        version: 2,
        attempt: 1,
        claim: CLAIM,
        lease: Lease::Pulled,
        lease_expires_at: at(40),
        started_at: Some(at(10)),
        ..submitted()
    };
    assert_eq!(next.status, expected);
    assert_eq!(next.error, None);
}

#[test]
fn an_extension_is_no_change_and_never_shortens_the_lease() {
    for (expires, expected) in [(150, 200), (200, 200), (300, 300)] {
        let before = running(Lease::Node, 200);
        let next = transition(&before, &extended(CLAIM, expires), at(NOW)).unwrap();
        let expected = Status {
            lease_expires_at: at(expected),
            ..before
        };
        assert_eq!(
            (next.status, next.error),
            (expected, None),
            "until {expires}"
        );
    }
}

/// A node that slept loses nothing as long as nobody took its job away; a pulled lease belongs to
/// no node, and is lost at the instant that its worker was told.
#[test]
fn a_lease_that_ran_out_settles_for_a_node_and_not_for_a_puller() {
    for (lease, tick, is_kept) in [
        (Lease::Node, 199, true),
        (Lease::Node, 200, true),
        (Lease::Node, 10_000, true),
        (Lease::Pulled, 199, true),
        (Lease::Pulled, 200, false),
        (Lease::Pulled, 10_000, false),
    ] {
        let got = transition(&running(lease, 200), &succeeded(CLAIM), at(tick));
        assert_eq!(got.is_ok(), is_kept, "{lease:?} at {tick}");
    }
    let taken = after_all(running(Lease::Node, 200), [(200, lease_expired(CLAIM))]);
    let late = transition(&taken, &succeeded(CLAIM), at(201));
    assert_eq!(late, Err(Rejected::LeaseLost));
}

/// A restart of the server once took back what workers elsewhere were still at: the process that
/// died did not run these attempts.
#[test]
fn a_pulled_lease_survives_the_death_of_a_node() {
    for tick in [50, 200, 300] {
        let pulled = running(Lease::Pulled, 200);
        let got = transition(&pulled, &worker_crashed(CLAIM), at(tick));
        assert_eq!(got, Err(Rejected::NotYet), "at {tick}");
    }
    let pulled = running(Lease::Pulled, 200);
    assert!(transition(&pulled, &lease_expired(CLAIM), at(200)).is_ok());
}

#[test]
fn every_attempt_begun_counts_however_it_ends() {
    for (event, kind) in [
        (failed(CLAIM, Retry::In(ticks(3))), FailureKind::Error),
        (lease_expired(CLAIM), FailureKind::LeaseExpired),
        (timed_out(CLAIM), FailureKind::Timeout),
        (worker_crashed(CLAIM), FailureKind::Crash),
    ] {
        for (attempt, expected) in [(1, State::Waiting), (2, State::Waiting), (3, State::Failed)] {
            let before = Status {
                attempt,
                ..running(Lease::Node, 100)
            };
            let next = transition(&before, &event, at(NOW)).unwrap();
            let case = format!("{kind} in attempt {attempt} of 3");
            assert_eq!(next.status.state, expected, "{case}");
            assert_eq!(next.status.attempt, attempt, "{case}");
            let error = next.error.unwrap();
            assert_eq!(error.failure.kind, kind, "{case}");
            assert_eq!((error.attempt, error.at), (attempt, at(NOW)), "{case}");
            if expected == State::Waiting {
                assert_eq!(next.status.run_at, at(NOW + 3), "{case}");
            }
        }
    }
}

#[test]
fn a_job_with_one_attempt_is_begun_once() {
    let once = Status::submitted(at(0), None, 1);
    let running = after_all(once, [(1, claimed(CLAIM, Lease::Node, 100))]);
    for event in [
        failed(CLAIM, Retry::In(ticks(0))),
        lease_expired(CLAIM),
        worker_crashed(CLAIM),
    ] {
        let next = transition(&running, &event, at(NOW)).unwrap().status;
        assert_eq!(next.state, State::Failed, "{event:?}");
    }
}

#[test]
fn a_hand_back_costs_no_attempt() {
    for (hand_back, counted) in [(HandBack::Busy, 1), (HandBack::Drain, 0)] {
        let before = running(Lease::Node, 200);
        let next = transition(&before, &released(CLAIM, hand_back), at(50)).unwrap();
        let expected = Status {
            state: State::Waiting,
            version: before.version + 1,
            run_at: at(52),
            attempt: 0,
            hand_backs: counted,
            ..before
        };
        assert_eq!((next.status, next.error), (expected, None), "{hand_back:?}");
    }
}

/// Hands the job back again and again, and counts how often that was free.
#[test]
fn the_hundred_and_first_hand_back_costs_an_attempt() {
    let mut status = Status::submitted(at(0), None, 2);
    let mut attempts = Vec::new();
    let mut claim = ClaimNumber::NONE;
    while !status.state.is_final() {
        claim = claim.next();
        let now = status.run_at;
        let busy = released(claim, HandBack::Busy);
        let begin = claimed(claim, Lease::Node, now.as_millis() + 10);
        status = transition(&status, &begin, now).unwrap().status;
        let next = transition(&status, &busy, now).unwrap();
        attempts.push(next.status.attempt);
        let is_free = attempts.len() <= HAND_BACKS_FREE as usize;
        assert_eq!(
            next.error.is_none(),
            is_free,
            "hand-back {}",
            attempts.len()
        );
        status = next.status;
    }
    assert_eq!(attempts.len(), 102);
    assert!(attempts[..100].iter().all(|attempt| *attempt == 0));
    assert_eq!(attempts[100..], [1, 2]);
    assert_eq!(status.state, State::Failed);
    assert_eq!(status.hand_backs, 102);
}

#[test]
fn a_drain_is_free_however_often_the_job_was_handed_back() {
    let before = Status {
        hand_backs: HAND_BACKS_FREE + 5,
        ..running(Lease::Node, 200)
    };
    let drained = after_all(before, [(50, released(CLAIM, HandBack::Drain))]);
    assert_eq!((drained.state, drained.attempt), (State::Waiting, 0));
    assert_eq!(drained.hand_backs, HAND_BACKS_FREE + 5);
}

#[test]
fn a_waiting_job_is_cancelled_at_once() {
    for (name, status) in statuses() {
        if status.state != State::Waiting {
            continue;
        }
        let next = transition(&status, &Event::CancelRequested, at(NOW)).unwrap();
        assert_eq!(next.status.state, State::Cancelled, "{name}");
        assert_eq!(next.status.finished_at, Some(at(NOW)), "{name}");
        assert_eq!(next.error, None, "{name}");
    }
}

#[test]
fn a_cancel_only_tells_a_running_job() {
    let before = running(Lease::Node, 200);
    let expected = Status {
        version: before.version + 1,
        cancel_requested: true,
        ..before
    };
    assert_eq!(cancelling(), expected);
}

#[test]
fn after_a_cancel_only_a_success_is_not_the_end() {
    let cases = [
        (succeeded(CLAIM), State::Succeeded, None),
        (
            failed(CLAIM, Retry::In(ticks(0))),
            State::Cancelled,
            Some(FailureKind::Error),
        ),
        (
            failed(CLAIM, Retry::Never),
            State::Cancelled,
            Some(FailureKind::Error),
        ),
        (released(CLAIM, HandBack::Busy), State::Cancelled, None),
        (released(CLAIM, HandBack::Drain), State::Cancelled, None),
        (
            lease_expired(CLAIM),
            State::Cancelled,
            Some(FailureKind::LeaseExpired),
        ),
        (
            worker_crashed(CLAIM),
            State::Cancelled,
            Some(FailureKind::Crash),
        ),
    ];
    for (event, expected, kind) in cases {
        let next = transition(&cancelling(), &event, at(200)).unwrap();
        assert_eq!(next.status.state, expected, "{event:?}");
        assert_eq!(next.status.finished_at, Some(at(200)), "{event:?}");
        let said = next.error.map(|error| error.failure.kind);
        assert_eq!(said, kind, "{event:?}");
    }
}

/// `cancel_requested` once stayed true in a job that had ended, although nobody was left to be
/// told: a client that polled for it saw a cancel on its way for ever.
#[test]
fn nobody_is_told_to_stop_once_the_job_has_ended() {
    for event in [
        succeeded(CLAIM),
        failed(CLAIM, Retry::Never),
        released(CLAIM, HandBack::Drain),
        worker_crashed(CLAIM),
    ] {
        let ended = transition(&cancelling(), &event, at(NOW)).unwrap().status;
        assert!(!ended.cancel_requested, "{event:?}");
    }
}

#[test]
fn a_retry_starts_over_and_keeps_the_fence() {
    for (name, status) in statuses() {
        let worn = Status {
            hand_backs: 7,
            ..status
        };
        let Ok(next) = transition(&worn, &Event::RetryRequested, at(NOW)) else {
            continue;
        };
        let expected = Status {
            state: State::Waiting,
            version: worn.version + 1,
            run_at: at(NOW),
            // The deadline of the jobs that were too late went by, and would end them again.
            start_before: None,
            attempt: 0,
            finished_at: None,
            cancel_requested: false,
            hand_backs: 0,
            ..worn
        };
        assert_eq!((next.status, next.error), (expected, None), "{name}");
        assert_eq!(next.status.shown(at(NOW)), ShownState::Ready, "{name}");
    }
}

#[test]
fn a_retry_keeps_a_deadline_that_lies_ahead() {
    for (deadline, expected) in [
        (None, None),
        (Some(at(NOW - 1)), None),
        (Some(at(NOW)), Some(at(NOW))),
        (Some(at(NOW + 1)), Some(at(NOW + 1))),
    ] {
        let scheduled = Status::submitted(at(NOW + 50), deadline, 3);
        let next = transition(&scheduled, &Event::RetryRequested, at(NOW)).unwrap();
        assert_eq!(next.status.start_before, expected, "{deadline:?}");
    }
}

/// What its owner changes of a job leaves everything else of it alone.
#[test]
fn an_amendment_changes_what_it_names() {
    let of = |run_at: Option<i64>| Amendment {
        run_at: run_at.map(at),
        priority: Some(Priority::default()),
        ..Amendment::default()
    };
    for (name, status) in statuses() {
        for (amendment, expected) in [
            (of(None), status.run_at),
            (of(Some(NOW + 1)), at(NOW + 1)),
            // At once; whoever may start already keeps its turn.
            (of(Some(NOW)), status.run_at.min(at(NOW))),
            (of(Some(0)), status.run_at.min(at(NOW))),
        ] {
            let event = Event::Amended {
                amendment: Box::new(amendment),
            };
            let Ok(next) = transition(&status, &event, at(NOW)) else {
                assert_ne!(status.state, State::Waiting, "{name} <- {event:?}");
                continue;
            };
            let expected = Status {
                version: status.version + 1,
                run_at: expected,
                ..status
            };
            assert_eq!(
                (next.status, next.error),
                (expected, None),
                "{name} <- {event:?}"
            );
        }
    }
}

#[test]
fn an_amendment_that_says_nothing_is_no_change() {
    let event = Event::Amended {
        amendment: Box::default(),
    };
    for (name, status) in statuses() {
        let expected = match status.state {
            State::Waiting => Ok((status, None)),
            _ => Err(Rejected::NotWaiting),
        };
        let got = transition(&status, &event, at(NOW)).map(|next| (next.status, next.error));
        assert_eq!(got, expected, "{name}");
    }
}

#[test]
fn an_amendment_says_whether_it_says_anything() {
    let all = [
        Amendment {
            run_at: Some(at(1)),
            ..Amendment::default()
        },
        Amendment {
            priority: Some(Priority::default()),
            ..Amendment::default()
        },
        Amendment {
            queue: Name::new("q").ok(),
            ..Amendment::default()
        },
        Amendment {
            tags: Some(std::collections::BTreeMap::new()),
            ..Amendment::default()
        },
    ];
    assert!(Amendment::default().is_empty());
    for (n, amendment) in all.into_iter().enumerate() {
        assert!(!amendment.is_empty(), "{amendment:?}");
        assert_eq!(amendment.changes_spec(), n > 0, "{amendment:?}");
    }
}

#[test]
fn a_deadline_holds_for_the_first_beginning_only() {
    let bounded = Status::submitted(at(0), Some(at(50)), 3);
    let begun = after_all(bounded, [(50, claimed(CLAIM, Lease::Node, 200))]);
    let again = after_all(begun, [(60, failed(CLAIM, Retry::In(ticks(10))))]);
    for (name, status, tick, is_too_late) in [
        ("before it", bounded, 49, false),
        ("at it", bounded, 50, false),
        ("after it", bounded, 51, true),
        ("begun in time", begun, 51, false),
        ("between attempts", again, 70, false),
    ] {
        assert_eq!(status.is_too_late(at(tick)), is_too_late, "{name}");
        let passed = transition(&status, &Event::DeadlinePassed, at(tick));
        assert_eq!(passed.is_ok(), is_too_late, "{name}");
    }
    let next = transition(&bounded, &Event::DeadlinePassed, at(51)).unwrap();
    let error = next.error.unwrap();
    assert_eq!(error.failure.kind, FailureKind::TooLate);
    assert_eq!((error.attempt, error.at), (0, at(51)));
    assert_eq!(next.status.finished_at, Some(at(51)));
    assert!(transition(&again, &claimed(LATER_CLAIM, Lease::Node, 200), at(70)).is_ok());
}

#[test]
fn waiting_is_shown_by_the_clock() {
    let job = Status::submitted(at(50), None, 3);
    for (tick, expected) in [
        (49, ShownState::Scheduled),
        (50, ShownState::Ready),
        (51, ShownState::Ready),
    ] {
        assert_eq!(job.shown(at(tick)), expected, "at {tick}");
    }
}

#[test]
fn every_shown_state_has_a_word_and_a_stored_state() {
    for shown in ShownState::ALL {
        assert_eq!(ShownState::from_word(shown.as_str()), Some(shown));
        assert_eq!(shown.to_string(), shown.as_str());
    }
    assert_eq!(ShownState::from_word("waiting"), None, "it is never shown");
    for (name, status) in statuses() {
        assert_eq!(status.shown(at(NOW)).stored(), status.state, "{name}");
    }
}
