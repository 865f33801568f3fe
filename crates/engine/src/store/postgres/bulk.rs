//! An insert of many rows as one statement over arrays.
//!
//! An array costs for each of its elements, here, on the wire and there. Most rows of a batch are alike
//! in most of their columns: what all of them have in common is sent once. Columns go together in
//! groups, so that there are few statements to prepare.

use tokio_postgres::types::ToSql;

/// A value, or an array of values.
pub(super) type Value<'a> = &'a (dyn ToSql + Sync);

/// Columns that are sent once where every row has the same in each of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Group {
    /// What kind of job it is.
    Kind,
    /// What tells how its attempts go.
    Attempt,
    /// What most jobs have nothing in.
    Rare,
}

/// A column of the rows.
#[derive(Debug)]
pub(super) struct Column<'a> {
    name: &'static str,
    kind: &'static str,
    group: Option<Group>,
    each: Value<'a>,
    /// What all rows have, where that is the same.
    one: Option<Value<'a>>,
}

impl<'a> Column<'a> {
    /// Returns a column in which every row has its own value. `kind` is the SQL type of one.
    pub(super) fn own<T: Sync>(name: &'static str, kind: &'static str, each: &'a Vec<T>) -> Self
    where
        Vec<T>: ToSql,
    {
        Self {
            name,
            kind,
            group: None,
            each,
            one: None,
        }
    }

    /// Returns a column in which many rows have the same.
    pub(super) fn of<T: ToSql + Sync + PartialEq>(
        group: Group,
        name: &'static str,
        kind: &'static str,
        each: &'a Vec<T>,
    ) -> Self
    where
        Vec<T>: ToSql,
    {
        let first = each.first();
        let one = first.filter(|first| each.iter().all(|value| value == *first));
        Self {
            name,
            kind,
            group: Some(group),
            each,
            one: one.map(|one| -> Value<'a> { one }),
        }
    }
}

/// Returns the statement that inserts rows into a table, and its values.
pub(super) fn insert<'a>(table: &str, columns: &[Column<'a>]) -> (String, Vec<Value<'a>>) {
    let is_one = |column: &Column<'_>| {
        let mut alike = columns.iter().filter(|other| other.group == column.group);
        column.group.is_some() && alike.all(|other| other.one.is_some())
    };
    let (mut names, mut selected) = (Vec::new(), Vec::new());
    let (mut arrays, mut aliases) = (Vec::new(), Vec::new());
    let mut values = Vec::with_capacity(columns.len());
    for (at, column) in columns.iter().enumerate() {
        let (number, kind) = (at + 1, column.kind);
        names.push(column.name);
        if let Some(one) = column.one.filter(|_| is_one(column)) {
            selected.push(format!("${number}::{kind}"));
            values.push(one);
        } else {
            selected.push(format!("each.{}", column.name));
            arrays.push(format!("${number}::{kind}[]"));
            aliases.push(column.name);
            values.push(column.each);
        }
    }
    let sql = format!(
        "INSERT INTO {table} ({}) SELECT {} FROM unnest({}) AS each ({})",
        names.join(", "),
        selected.join(", "),
        arrays.join(", "),
        aliases.join(", "),
    );
    (sql, values)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_all_rows_have_is_sent_once() {
        let (id, task) = (vec![1_i64, 2], vec!["a", "a"]);
        let (errors, states) = (vec![0_i64, 0], vec![0_i64, 3]);
        let columns = [
            Column::own("id", "bigint", &id),
            Column::of(Group::Kind, "task", "text", &task),
            Column::of(Group::Rare, "errors", "bigint", &errors),
            Column::of(Group::Rare, "states", "bigint", &states),
        ];
        let (sql, values) = insert("job", &columns);
        assert_eq!(
            sql,
            "INSERT INTO job (id, task, errors, states) \
             SELECT each.id, $2::text, each.errors, each.states \
             FROM unnest($1::bigint[], $3::bigint[], $4::bigint[]) AS each (id, errors, states)"
        );
        assert_eq!(values.len(), 4);
    }
}
