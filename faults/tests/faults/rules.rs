//! Each rule broken by a changed event, and files that are no history.

use crate::world::{Entry, History, WALL_AHEAD_US, check, history, numbered};
use anteroom_faults::history::merge::Merged;
use anteroom_faults::history::{Bounds, Event, FaultKind, Recorder, Rule, Seen, check as checker};
use std::io::{BufReader, Cursor, Write};

/// Changes the first event that `change` takes, and checks what comes of it.
fn changed(bounds: &Bounds, change: impl Fn(&mut Event) -> bool) -> Vec<Rule> {
    let mut wrong = history(11, 6);
    assert!(check(&wrong, bounds).is_clean());
    let found = wrong.iter_mut().any(|entry| change(&mut entry.event));
    assert!(found, "no event to change");
    check(&wrong, bounds).broken.into_keys().collect()
}

#[test]
fn another_result_than_the_right_one_is_caught() {
    let broken = changed(&Bounds::default(), |event| match event {
        Event::Get(read) if read.result.is_some() => {
            read.result = Some("another".to_owned());
            true
        }
        _ => false,
    });
    assert!(broken.contains(&Rule::Produced), "{broken:?}");
}

#[test]
fn a_result_that_changes_is_caught_even_where_the_right_one_is_unknown() {
    let mut wrong = history(11, 6);
    for entry in &mut wrong {
        if let Event::Submit(submit) = &mut entry.event {
            submit.expected = None;
        }
    }
    let bounds = Bounds {
        handlers: false,
        ..Bounds::default()
    };
    assert!(check(&wrong, &bounds).is_clean());
    let mut seen = std::collections::HashSet::new();
    let second = wrong.iter_mut().find_map(|entry| match &mut entry.event {
        Event::Get(read) if read.result.is_some() && !seen.insert(read.id.clone()) => Some(read),
        _ => None,
    });
    second.unwrap().result = Some("another".to_owned());
    assert_eq!(check(&wrong, &bounds).count(Rule::Constant), 1);
}

#[test]
fn a_result_of_an_attempt_that_never_was_is_caught() {
    let broken = changed(&Bounds::default(), |event| match event {
        Event::Get(read) if read.state == Seen::Succeeded => {
            read.attempt = read.attempt.map(|attempt| attempt + 1);
            true
        }
        _ => false,
    });
    assert_eq!(broken, [Rule::Produced]);
}

#[test]
fn an_acknowledged_job_that_is_missing_is_caught() {
    for state in [Seen::Missing, Seen::Gone] {
        let broken = changed(&Bounds::default(), |event| match event {
            Event::Get(read) if read.state == Seen::Succeeded => {
                (read.state, read.attempt, read.result) = (state, None, None);
                true
            }
            _ => false,
        });
        assert!(broken.contains(&Rule::Kept), "{state:?}: {broken:?}");
    }
}

#[test]
fn a_final_state_that_changes_is_caught() {
    let broken = changed(&Bounds::default(), |event| match event {
        Event::Get(read) if read.state == Seen::Cancelled => {
            read.state = Seen::Failed;
            true
        }
        _ => false,
    });
    assert_eq!(broken, [Rule::Constant]);
}

#[test]
fn another_input_is_caught_unless_the_server_died_while_it_handed_it_over() {
    let (mut explained, mut caught) = (0, 0);
    let right = history(11, 6);
    for at in 0..right.len() {
        let mut wrong = right.clone();
        let Event::Start { body, .. } = &mut wrong[at].event else {
            continue;
        };
        "another".clone_into(body);
        let report = check(&wrong, &Bounds::default());
        // Of a job that was never acknowledged it shows as one that nobody submitted.
        assert!(report.cut_inputs > 0 || !report.is_clean(), "{report}");
        explained += report.cut_inputs;
        caught += report.count(Rule::Produced);
    }
    assert!(explained > 0 && caught > 0, "{explained} {caught}");
}

#[test]
fn a_start_under_an_earlier_claim_is_caught() {
    let mut seen = std::collections::HashMap::new();
    let mut wrong = history(11, 6);
    let second = wrong.iter_mut().find_map(|entry| match &mut entry.event {
        Event::Start { id, claim, .. } => {
            let first = seen.insert(id.clone(), *claim)?;
            Some((claim, first))
        }
        _ => None,
    });
    let (claim, first) = second.unwrap();
    *claim = first - 1;
    assert!(check(&wrong, &Bounds::default()).count(Rule::Fenced) > 0);
}

#[test]
fn only_who_was_paused_or_cut_off_just_then_may_begin_after_a_later_claim() {
    let of_its_own = Some("n1".to_owned());
    let cases = [
        (FaultKind::Pause, of_its_own.clone(), 1_000_000, false),
        (FaultKind::Pause, of_its_own.clone(), 60_000_000, true),
        (FaultKind::Pause, Some("n2".to_owned()), 1_000_000, true),
        (FaultKind::Partition, of_its_own.clone(), 1_000_000, false),
        (FaultKind::Partition, of_its_own.clone(), 60_000_000, true),
        (FaultKind::Database, of_its_own.clone(), 1_000_000, true),
        (FaultKind::Kill, of_its_own, 1_000_000, true),
    ];
    for (kind, node, before_us, caught) in cases {
        let start = |claim, node: &str| Event::Start {
            id: "job".to_owned(),
            attempt: 1,
            claim,
            node: node.to_owned(),
            body: "body".to_owned(),
        };
        let events = [
            (100_000_000 - before_us, Event::Fault { kind, node }),
            (100_000_000, start(2, "n3")),
            (100_000_001, start(1, "n1")),
        ];
        let history: History = events
            .into_iter()
            .map(|(at_us, event)| Entry {
                party: format!("at {at_us}"),
                at_us,
                event,
            })
            .collect();
        let report = check(&history, &Bounds::default());
        assert_eq!(report.count(Rule::Fenced) > 0, caught, "{kind:?}: {report}");
    }
}

#[test]
fn a_settle_under_an_earlier_claim_is_caught_when_it_is_accepted() {
    for (accepted, caught) in [(true, true), (false, false)] {
        let mut wrong = history(11, 6);
        let at = wrong
            .iter()
            .position(|entry| matches!(entry.event, Event::Settle { .. }))
            .unwrap();
        let mut late = wrong[at].clone();
        let Event::Settle {
            claim,
            accepted: accept,
            succeeded,
            ..
        } = &mut late.event
        else {
            panic!("{late:?}")
        };
        (*claim, *accept, *succeeded) = (*claim - 1, accepted, false);
        wrong.insert(at, late);
        let report = check(&wrong, &Bounds::default());
        assert_eq!(report.count(Rule::Fenced) > 0, caught, "{report}");
    }
}

#[test]
fn a_start_long_after_the_answer_to_a_cancel_is_caught() {
    for (grace_us, caught) in [(1_000_000, true), (5_000_000, false)] {
        let mut wrong = history(11, 6);
        let retry = wrong
            .iter()
            .position(|entry| matches!(entry.event, Event::RetryRequest { .. }));
        // Only one of a cancelled job begins a second later.
        let cancelled = |wrong: &History, at: usize| match &wrong[at].event {
            Event::RetryRequest { id } => wrong.iter().any(
                |entry| matches!(&entry.event, Event::CancelReply { id: other, .. } if other == id),
            ),
            _ => false,
        };
        assert!(retry.is_some());
        let at = (0..wrong.len()).find(|at| cancelled(&wrong, *at)).unwrap();
        wrong.remove(at);
        let bounds = Bounds {
            cancel_grace_us: grace_us,
            ..Bounds::default()
        };
        let report = check(&wrong, &bounds);
        assert_eq!(report.count(Rule::Cancelled) > 0, caught, "{report}");
    }
}

#[test]
fn a_second_id_for_a_key_is_caught() {
    let mut acks = 0;
    let mut wrong = history(11, 6);
    let keyed: Vec<u64> = wrong
        .iter()
        .filter_map(|entry| match &entry.event {
            Event::Submit(submit) if submit.key.is_some() => Some(submit.call),
            _ => None,
        })
        .collect();
    for entry in &mut wrong {
        if let Event::Ack { call, id, .. } = &mut entry.event
            && keyed.contains(call)
        {
            acks += 1;
            if acks == 2 {
                id.push_str(" again");
            }
        }
    }
    assert!(check(&wrong, &Bounds::default()).count(Rule::OneId) > 0);
}

#[test]
fn one_id_for_two_submits_is_caught_unless_it_is_called_a_duplicate() {
    for (duplicate_is, caught) in [(false, true), (true, false)] {
        let mut wrong = history(11, 6);
        let first = wrong.iter().find_map(|entry| match &entry.event {
            Event::Ack { id, .. } => Some(id.clone()),
            _ => None,
        });
        // The call of a refused submit gets an acknowledgement instead.
        let refused = wrong.iter_mut().rev().find_map(|entry| match entry.event {
            Event::Refused { call, .. } => Some((entry, call)),
            _ => None,
        });
        let (entry, call) = refused.unwrap();
        entry.event = Event::Ack {
            call,
            id: first.unwrap(),
            duplicate: duplicate_is,
        };
        let report = check(&wrong, &Bounds::default());
        assert_eq!(report.count(Rule::OneId) > 0, caught, "{report}");
    }
}

#[test]
fn a_start_before_its_time_is_caught() {
    for (later_us, caught) in [(0, false), (1_000_000, true)] {
        let mut wrong = history(11, 6);
        for entry in &mut wrong {
            if let Event::Submit(submit) = &mut entry.event
                && let Some(run_at_us) = &mut submit.run_at_us
            {
                assert!(*run_at_us > WALL_AHEAD_US);
                *run_at_us += later_us;
            }
        }
        let report = check(&wrong, &Bounds::default());
        assert_eq!(report.count(Rule::NeverEarly) > 0, caught, "{report}");
    }
}

#[test]
fn overlap_is_explained_by_a_fault_of_the_same_node_only() {
    let cases = [
        (FaultKind::Kill, true, false),
        (FaultKind::Cut, true, false),
        (FaultKind::Pause, true, false),
        (FaultKind::Partition, true, false),
        (FaultKind::Kill, false, true),
        (FaultKind::Disk, true, true),
        (FaultKind::Database, true, true),
        (FaultKind::Stop, true, false),
        (FaultKind::Stop, false, true),
    ];
    for (kind, same_node, caught) in cases {
        let mut changed = history(11, 6);
        for entry in &mut changed {
            if let Event::Fault { kind: was, node } = &mut entry.event {
                *was = kind;
                if !same_node {
                    *node = Some("n2".to_owned());
                }
            }
        }
        let report = check(&changed, &Bounds::default());
        assert_eq!(
            report.count(Rule::Alone) > 0,
            caught,
            "{kind:?} {same_node}: {report}"
        );
    }
}

#[test]
fn a_program_left_behind_may_begin_and_end_a_moment_after_its_server_was_killed() {
    for (grace_us, caught) in [(2_000_000, false), (0, true)] {
        let mut late = history(11, 6);
        // Every kill is noted as if it had come 150 ms earlier than the last that ran then.
        for entry in &mut late {
            if let Event::Fault { .. } = entry.event {
                entry.at_us -= 150_000;
            }
        }
        late.sort_by_key(|entry| entry.at_us);
        let bounds = Bounds {
            left_behind_us: grace_us,
            ..Bounds::default()
        };
        let report = check(&late, &bounds);
        assert_eq!(report.count(Rule::Alone) > 0, caught, "{report}");
    }
}

#[test]
fn a_job_that_is_only_read_needs_an_unknown_submit_as_well() {
    let mut wrong = history(11, 6);
    let read = |id: String, at_us| crate::world::Entry {
        party: "lister".to_owned(),
        at_us,
        event: Event::Get(anteroom_faults::history::Read {
            id,
            sent_us: at_us,
            state: Seen::Ready,
            attempt: None,
            result: None,
        }),
    };
    let last_us = wrong[wrong.len() - 1].at_us;
    let before = check(&wrong, &Bounds::default());
    // A keyed unknown submit was acknowledged later, and leaves no room.
    let unkeyed = 6;
    for number in before.appeared..=unkeyed {
        let report = check(&wrong, &Bounds::default());
        assert_eq!(report.appeared, number);
        assert!(report.is_clean(), "{report}");
        wrong.push(read(format!("listed-{number}"), last_us + number));
    }
    let report = check(&wrong, &Bounds::default());
    assert_eq!(report.count(Rule::AtMostOnce), 1, "{report}");
}

#[test]
fn a_wait_beyond_its_bound_is_caught_by_priority() {
    let right = history(11, 6);
    let report = check(&right, &Bounds::default());
    let longest_us = *report.longest_wait_us.values().max().unwrap();
    for (bound_us, caught) in [(longest_us, false), (longest_us - 1, true)] {
        let bounds = Bounds {
            wait_us_max: [(5, bound_us)].into(),
            ..Bounds::default()
        };
        assert_eq!(check(&right, &bounds).count(Rule::NoStarvation) > 0, caught);
        let bounds = Bounds {
            wait_us_max: [(3, 0)].into(),
            wait_us_max_default: Some(bound_us),
            ..Bounds::default()
        };
        assert_eq!(check(&right, &bounds).count(Rule::NoStarvation) > 0, caught);
    }
}

#[test]
fn a_job_that_never_starts_waits_to_the_end_of_the_history() {
    let mut wrong = history(11, 6);
    let id = wrong.iter().find_map(|entry| match &entry.event {
        Event::Ack { id, .. } => Some(id.clone()),
        _ => None,
    });
    let id = id.unwrap();
    wrong.retain(|entry| match &entry.event {
        Event::Start { id: other, .. } | Event::End { id: other, .. } => *other != id,
        Event::Settle { id: other, .. } => *other != id,
        Event::Get(read) => read.id != id,
        _ => true,
    });
    let bounds = Bounds {
        drained: false,
        wait_us_max_default: Some(3_000_000),
        ..Bounds::default()
    };
    assert_eq!(check(&wrong, &bounds).count(Rule::NoStarvation), 1);
    let drained = Bounds::default();
    assert_eq!(check(&wrong, &drained).count(Rule::Kept), 1);
}

#[test]
fn more_acknowledgements_than_the_capacity_are_caught_during_overload_only() {
    let mut right = history(11, 6);
    let overload = |on, at_us| crate::world::Entry {
        party: "injector".to_owned(),
        at_us,
        event: Event::Overload { on },
    };
    let (first_us, last_us) = (right[0].at_us, right[right.len() - 1].at_us);
    right.insert(0, overload(true, first_us));
    right.push(overload(false, last_us));
    let acks = check(&right, &Bounds::default()).acked;
    let span_s = (last_us - first_us) / 1_000_000;
    for (capacity, caught) in [(acks, false), (acks / (span_s + 1) / 2, true)] {
        let bounds = Bounds {
            capacity_per_s: Some(capacity),
            ..Bounds::default()
        };
        assert_eq!(check(&right, &bounds).count(Rule::Bounded) > 0, caught);
    }
    let bounds = Bounds {
        capacity_per_s: Some(0),
        capacity_burst: acks * 2,
        ..Bounds::default()
    };
    assert!(check(&right, &bounds).is_clean());
    right.remove(0);
    let bounds = Bounds {
        capacity_per_s: Some(0),
        ..Bounds::default()
    };
    assert!(check(&right, &bounds).is_clean(), "no overload, no bound");
}

#[test]
fn a_refused_submit_that_appears_is_caught() {
    let mut wrong = history(11, 6);
    // Every unknown submit turns out to have been refused.
    for entry in &mut wrong {
        if let Event::Unknown { call } = entry.event {
            entry.event = Event::Refused { call, status: 429 };
        }
    }
    let report = check(&wrong, &Bounds::default());
    assert!(report.count(Rule::AtMostOnce) > 0, "{report}");
}

#[test]
fn an_unknown_submit_that_appears_twice_is_caught() {
    let mut wrong = history(11, 6);
    let acked: std::collections::HashSet<_> = wrong
        .iter()
        .filter_map(|entry| match &entry.event {
            Event::Ack { id, .. } => Some(id.clone()),
            _ => None,
        })
        .collect();
    let mut twins: History = Vec::new();
    for entry in &wrong {
        let mut twin = entry.clone();
        if let Event::Start { id, .. } | Event::End { id, .. } | Event::Settle { id, .. } =
            &mut twin.event
            && !acked.contains(id)
        {
            id.push_str(" twin");
            twins.push(twin);
        }
    }
    assert!(!twins.is_empty());
    wrong.extend(twins);
    wrong.sort_by_key(|entry| entry.at_us);
    let report = check(&wrong, &Bounds::default());
    assert_eq!(
        report.count(Rule::AtMostOnce),
        report.appeared / 2,
        "{report}"
    );
}

#[test]
fn a_history_in_files_is_read_in_the_order_of_its_times() {
    let folder = tempfile::tempdir().unwrap();
    let right = history(11, 6);
    let mut files = std::collections::BTreeMap::new();
    for line in numbered(&right) {
        let path = folder.path().join(&line.party);
        let file = files
            .entry(path)
            .or_insert_with_key(|path| std::fs::File::create(path).unwrap());
        writeln!(file, "{}", serde_json::to_string(&line).unwrap()).unwrap();
    }
    let paths: Vec<_> = files.into_keys().collect();
    let report = checker::check_files(&paths, &Bounds::default()).unwrap();
    assert!(report.is_clean(), "{report}");
    assert_eq!(report.lines, right.len() as u64);
}

#[test]
fn what_is_no_history_is_refused_with_its_place() {
    let lines: Vec<_> = numbered(&history(11, 1))
        .map(|line| serde_json::to_string(&line).unwrap())
        .collect();
    let backwards = format!("{}\n{}\n", lines[9], lines[0]);
    let cut = format!("{}\n{}", lines[0], &lines[1][..lines[1].len() / 2]);
    for (text, says) in [
        (backwards, "earlier than the line before it"),
        (cut, "f:2: no line of a history"),
        ("[]\n".to_owned(), "f:1: no line of a history"),
    ] {
        let reader = BufReader::new(Cursor::new(text.into_bytes()));
        let outcome = Merged::from_readers(vec![("f".to_owned(), Box::new(reader))])
            .and_then(|mut lines| checker::check(&mut lines, &Bounds::default()));
        let error = format!("{:#}", outcome.unwrap_err());
        assert!(error.contains(says), "{error}");
    }
}

#[test]
fn recorders_of_several_parties_write_one_file_that_can_be_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("history.jsonl");
    for incarnation in 1..=3 {
        let recorder = Recorder::open(&path, format!("injector-{incarnation}")).unwrap();
        for _ in 0..4 {
            let fault = Event::Fault {
                kind: FaultKind::Kill,
                node: None,
            };
            recorder.write(fault).unwrap();
        }
    }
    let report = checker::check_files(&[path], &Bounds::default()).unwrap();
    assert!(report.is_clean(), "{report}");
    assert_eq!((report.lines, report.faults), (12, 12));
}
