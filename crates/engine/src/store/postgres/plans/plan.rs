//! Reads what `EXPLAIN` says, and finds what reads too much in it.

/// Tables that may have a row for each job, or for each of very many.
const LARGE: [&str; 11] = [
    "job",
    "done",
    "waiting",
    "running",
    "error",
    "report",
    "state",
    "settled",
    "gone",
    "submit",
    "unique_key",
];
/// What takes all rows below it before it gives one.
const GATHERS: [&str; 6] = [
    "Sort",
    "Aggregate",
    "HashAggregate",
    "GroupAggregate",
    "Hash",
    "Materialize",
];

/// One node of a plan.
#[derive(Debug)]
struct Node<'a> {
    depth: usize,
    what: &'a str,
    /// The conditions by which its index is gone through.
    condition: &'a str,
}

/// Returns the nodes of a plan, as `EXPLAIN (COSTS OFF)` writes it.
fn nodes<'a>(lines: &[&'a str]) -> Vec<Node<'a>> {
    let mut nodes: Vec<Node<'a>> = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let text = line.trim_start();
        let depth = line.len() - text.len();
        if let Some(what) = text.strip_prefix("->  ") {
            nodes.push(Node {
                depth: depth + 1,
                what,
                condition: "",
            });
        } else if at == 0 {
            nodes.push(Node {
                depth: 0,
                what: text,
                condition: "",
            });
        } else if let Some(condition) = text.strip_prefix("Index Cond: ")
            && let Some(last) = nodes.last_mut()
        {
            last.condition = condition;
        }
    }
    nodes
}

/// Returns the large table that a node scans: of a partition, the one that it is of.
fn scanned<'a>(node: &Node<'a>) -> Option<(&'static str, &'a str)> {
    let (how, of) = node.what.split_once(" on ")?;
    // Of a subquery only the name may be that of a table.
    if !how.contains("Scan") || how.starts_with("Subquery") || how.starts_with("CTE") {
        return None;
    }
    let table = of.split(' ').next()?;
    let is_of = |large: &&&str| {
        let rest = table.strip_prefix(**large);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('_'))
    };
    // `unique_key` and the like have no partitions, and none is the beginning of another.
    LARGE.iter().find(is_of).map(|large| (*large, table))
}

/// Tells whether of the rows of a node only the first ones are wanted.
fn is_cut_short(nodes: &[Node<'_>], at: usize) -> bool {
    let mut depth = nodes[at].depth;
    for above in nodes[..at].iter().rev() {
        if above.depth >= depth {
            continue;
        }
        depth = above.depth;
        if above.what == "Limit" {
            return true;
        }
        let kind = above.what.split(' ').next().unwrap_or_default();
        if GATHERS.contains(&kind) {
            return false;
        }
    }
    false
}

/// Says what reads too much in a plan.
pub(super) fn offences(lines: &[&str]) -> Vec<String> {
    let nodes = nodes(lines);
    let mut offences = Vec::new();
    for (at, node) in nodes.iter().enumerate() {
        let Some((_, table)) = scanned(node) else {
            continue;
        };
        let is_few = node.condition.contains(" = ");
        if node.what.contains("Seq Scan") {
            offences.push(format!("it reads all of {table}"));
        } else if !is_few && !is_cut_short(&nodes, at) {
            offences.push(format!(
                "it goes through an index of {table}: {}",
                node.what
            ));
        }
    }
    offences
}

/// Returns how many partitions of a table are looked into.
pub(super) fn partitions(lines: &[&str], of: &str) -> usize {
    let nodes = nodes(lines);
    let scans = nodes.iter().filter_map(scanned);
    let mut tables: Vec<&str> = scans
        .filter(|(table, _)| *table == of)
        .map(|scan| scan.1)
        .collect();
    tables.sort_unstable();
    tables.dedup();
    tables.len()
}

#[test]
fn what_reads_too_much_is_found() {
    let whole = ["Seq Scan on job_rest job", "  Filter: (id = $1)"];
    let filtered = [
        "Nested Loop",
        "  ->  Index Only Scan using waiting_order on waiting",
        "        Filter: (id = ANY ($1))",
        "  ->  Index Scan using job_20261128_pkey on job_20261128 job_1",
        "        Index Cond: (id = waiting.id)",
    ];
    let sorted = [
        "Limit",
        "  ->  Sort",
        "        Sort Key: run_at",
        "        ->  Index Scan using waiting_scheduled on waiting",
        "              Index Cond: (run_at > $1)",
    ];
    for (plan, expected) in [
        (&whole[..], "it reads all of job_rest"),
        (
            &filtered,
            "it goes through an index of waiting: Index Only Scan using waiting_order on waiting",
        ),
        (
            &sorted,
            "it goes through an index of waiting: Index Scan using waiting_scheduled on waiting",
        ),
    ] {
        assert_eq!(offences(plan), [expected]);
    }
    let first_ones = [
        "Nested Loop",
        "  ->  Function Scan on wanted",
        "  ->  Limit",
        "        ->  LockRows",
        "              ->  Index Scan using waiting_order on waiting",
        "                    Index Cond: (run_at <= $4)",
    ];
    let by_id = [
        "LockRows",
        "  ->  Append",
        "        Subplans Removed: 40",
        "        ->  Index Scan using done_20261128_pkey on done_20261128 done_1",
        "              Index Cond: ((id = ANY ($1)) AND (id >= ($1)[1]))",
    ];
    for plan in [
        &first_ones[..],
        &by_id,
        &["Seq Scan on node"],
        &["Subquery Scan on job"],
    ] {
        assert_eq!(offences(plan), Vec::<String>::new(), "{plan:?}");
    }
    assert_eq!(partitions(&by_id, "done"), 1);
    assert_eq!(partitions(&filtered, "job"), 1);
    assert_eq!(partitions(&filtered, "done"), 0);
}
