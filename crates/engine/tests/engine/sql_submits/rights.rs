//! Who may submit, and what else he may.

use super::*;

/// The statements of the page that says how it is used, block by block.
fn statements(role: &str) -> Vec<String> {
    let page = std::fs::read_to_string("../../docs/transactional-submit.md").unwrap();
    let blocks = page.split("```sql\n").skip(1);
    let blocks = blocks.map(|rest| rest.split("```").next().unwrap());
    blocks
        .map(|block| block.replace(" TO app;", &format!(" TO {role};")))
        .collect()
}

#[tokio::test]
async fn a_role_that_may_submit_may_nothing_else() {
    let database = database();
    let engine = idle(&database).await;
    let role = format!("{}_app", database.name());
    database.sql(&format!("CREATE ROLE {role} LOGIN PASSWORD 'secret'"));
    let url = database
        .url()
        .replace("anteroom:pgtest-secret", &format!("{role}:secret"));
    let session = Session::new(&url).await;
    let submit =
        "SELECT anteroom.submit('work', '1', '{\"unique_key\":\"u\",\"idempotency_key\":\"i\"}')";
    assert_eq!(
        session.refusal(submit).await.0,
        "42501",
        "before anything is granted"
    );
    database.sql(&format!("GRANT USAGE ON SCHEMA anteroom TO {role}"));
    let functions = "SELECT format('SELECT %s', oid::regprocedure) FROM pg_proc \
        WHERE pronamespace = 'anteroom'::regnamespace AND starts_with(proname, 'submit') \
        AND has_function_privilege(oid, 'EXECUTE')";
    assert_eq!(session.sql(functions).await, "", "nobody may call anything");
    let grants = statements(&role).into_iter();
    let grants: Vec<String> = grants.filter(|it| it.starts_with("GRANT")).collect();
    assert_eq!(grants.len(), 1);
    database.sql(&grants[0]);
    // Names that lie in front of ours are not taken for them.
    session
        .sql("CREATE TEMP TABLE task (name text); CREATE TEMP TABLE job (id uuid)")
        .await;
    session
        .sql("SET standard_conforming_strings = off; SET search_path = pg_temp")
        .await;
    let id: JobId = session.sql(submit).await.parse().unwrap();
    assert!(engine.store().get(id).await.unwrap().here().is_some());
    for form in ["'1'::json", "'1'::jsonb", "'1'::bytea"] {
        session
            .sql(&format!("SELECT anteroom.submit('work', {form})"))
            .await;
    }
    session
        .sql("SELECT * FROM anteroom.submit_many('[{\"task\":\"work\"}]')")
        .await;
    for forbidden in [
        "SELECT 1 FROM anteroom.job",
        "SELECT 1 FROM anteroom.task",
        "DELETE FROM anteroom.waiting",
        "INSERT INTO anteroom.submit_key VALUES ('a', 'b', '', gen_random_uuid(), false)",
        "SELECT anteroom.submit_id(now())",
        "SELECT anteroom.submit_remembered('work', 'i', '', gen_random_uuid())",
    ] {
        assert_eq!(session.refusal(forbidden).await.0, "42501", "{forbidden}");
    }
    drop(session);
    database.sql(&format!("DROP OWNED BY {role}; DROP ROLE {role}"));
    stop(engine).await;
}

#[tokio::test]
async fn the_statements_of_the_page_do_what_it_says() {
    let database = database();
    let tasks = vec![left("receipt"), left("thumbnail")];
    let engine = engine(&database, tasks, Options::default()).await;
    let role = format!("{}_page", database.name());
    database.sql(&format!("CREATE ROLE {role}"));
    let session = Session::of(&database).await;
    session
        .sql("CREATE TABLE orders (id integer PRIMARY KEY, customer text)")
        .await;
    for statement in statements(&role) {
        session.sql(&statement).await;
    }
    let jobs = "SELECT string_agg(concat_ws(' ', task, priority, unique_key, content_type), ',' \
        ORDER BY id) FROM anteroom.job";
    let expected = "receipt 2 application/json,receipt 5 order 7 application/json,\
        thumbnail 5 image/png";
    assert_eq!(session.sql(jobs).await, expected);
    assert_eq!(session.sql("SELECT count(*) FROM orders").await, "1");
    database.sql(&format!("DROP OWNED BY {role}; DROP ROLE {role}"));
    stop(engine).await;
}
