//! The tables, and how a database of an older version is brought forward.

use rusqlite::Connection;

/// What the header of each of our databases says it belongs to: "Ante".
pub(super) const APPLICATION_ID: u32 = 0x416e_7465;

/// What makes each version of the schema out of the one before, from version 1.
pub(super) const MIGRATIONS: &[&str] = &[
    include_str!("migrations/0001.sql"),
    include_str!("migrations/0002-keys.sql"),
    include_str!("migrations/0003-queues-and-documents.sql"),
    include_str!("migrations/0004-events.sql"),
    include_str!("migrations/0005-settled.sql"),
    include_str!("migrations/0006-limits.sql"),
];

/// Returns the version of the schema.
pub(super) fn version(db: &Connection) -> rusqlite::Result<u32> {
    db.pragma_query_value(None, "user_version", |row| row.get(0))
}

/// Brings the schema to the version of the last of `migrations`, each in a transaction of its own.
pub(super) fn bring_forward(db: &mut Connection, migrations: &[&str]) -> rusqlite::Result<()> {
    let mut reached = version(db)?;
    let to_do = migrations.iter().skip(reached as usize);
    for migration in to_do {
        let transaction = db.transaction()?;
        transaction.execute_batch(migration)?;
        reached += 1;
        transaction.pragma_update(None, "user_version", reached)?;
        transaction.commit()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ARTIFICIAL: &[&str] = &[
        "CREATE TABLE a (x INTEGER); INSERT INTO a VALUES (1);",
        "ALTER TABLE a ADD COLUMN y INTEGER; UPDATE a SET y = x + 1;",
        "INSERT INTO a VALUES (10, 20);",
    ];

    #[test]
    fn an_older_database_is_brought_forward_from_where_it_is() {
        let mut db = Connection::open_in_memory().unwrap();
        bring_forward(&mut db, &ARTIFICIAL[..1]).unwrap();
        assert_eq!(version(&db).unwrap(), 1);
        bring_forward(&mut db, ARTIFICIAL).unwrap();
        bring_forward(&mut db, ARTIFICIAL).unwrap();
        assert_eq!(version(&db).unwrap(), 3);
        let sum: i64 = db
            .query_row("SELECT sum(x) * 100 + sum(y) FROM a", [], |row| row.get(0))
            .unwrap();
        assert_eq!(sum, 1_122, "each migration ran once");
    }

    #[test]
    fn a_migration_that_fails_leaves_the_version_before_it() {
        let mut db = Connection::open_in_memory().unwrap();
        let broken = [ARTIFICIAL[0], "DELETE FROM a; SELECT nothing FROM nowhere;"];
        bring_forward(&mut db, &broken).unwrap_err();
        assert_eq!(version(&db).unwrap(), 1);
        let rows: i64 = db
            .query_row("SELECT count(*) FROM a", [], |row| row.get(0))
            .unwrap();
        assert_eq!(rows, 1, "what the failed migration did is undone");
    }
}
