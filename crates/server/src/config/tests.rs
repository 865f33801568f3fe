use super::*;
use anteroom::core::RateLimit;
use anteroom::run::exec::Limits;
use std::path::Path;

/// Reads `text` as the file `anteroom.toml` of a folder of its own.
fn load_file(text: &str, environment: &Environment, flags: &Flags) -> Result<Loaded, ConfigError> {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join(FILE_DEFAULT), text).unwrap();
    let mut loaded = load(flags, environment, folder.path())?;
    if let StoreUrl::Sqlite(path) = &mut loaded.config.store {
        let relative = path.strip_prefix(folder.path()).map(Path::to_path_buf);
        *path = relative.unwrap_or_else(|_| path.clone());
    }
    Ok(loaded)
}

pub(super) fn load_text(text: &str) -> Result<Loaded, ConfigError> {
    load_file(text, &Environment::default(), &Flags::default())
}

#[test]
fn an_empty_file_and_no_file_give_the_defaults() {
    assert_eq!(load_text("").unwrap().config, Config::default());
    let folder = tempfile::tempdir().unwrap();
    let loaded = load(&Flags::default(), &Environment::default(), folder.path()).unwrap();
    assert_eq!(loaded.config, Config::default());
    assert_eq!(loaded.file, None);
}

/// Returns the task `count` of [`every_key_is_read`].
fn counting(folder: &Path) -> TaskConfig {
    TaskConfig {
        runner: RunnerConfig::Exec(Box::new(ExecConfig {
            command: vec!["wc".into(), "-w".into()],
            result_content_type: "text/plain; charset=utf-8".into(),
            env: [("LANG".into(), "C.UTF-8".into())].into(),
            env_inherit: vec!["HOME".into()],
            current_dir: folder.join("work"),
            limits: Limits {
                open_files: Some(64),
                ..Limits::default()
            },
            user: None,
            new_privileges: true,
        })),
        queue: Name::new("texts").unwrap(),
        timeout: Duration::from_secs(30),
        kill_grace: Duration::from_secs(1),
        max_attempts: 3,
        backoff: RetryPolicy {
            initial: Duration::from_secs(2),
            factor: 3.0,
            max: Duration::from_mins(1),
            jitter: 0.5,
        },
        concurrency: 4,
        content_type: Some("text/plain".into()),
        schema: None,
    }
}

#[test]
fn every_key_is_read() {
    let text = r#"
        listen = "[::1]:9000"
        store = "memory:"
        insecure = true
        shutdown_grace = "1m"
        max_input = 2097152
        max_result = "4MiB"
        max_buffered = "128MiB"
        max_bulk = "32MiB"
        retain = "PT2H"
        allowed_origins = ["https://app.example.com"]
        strict_queues = true

        [queues.texts]
        max_concurrency = 8
        max_depth = 1_000_000
        rate_limit = { limit = 100, period = "1s" }
        group_concurrency = 2

        [queues.plain]

        [tasks.count]
        exec = ["wc", "-w"]
        queue = "texts"
        timeout = "30s"
        kill_grace = "1s"
        max_attempts = 3
        backoff = { initial = "2s", factor = 3, max = "1m", jitter = 0.5 }
        concurrency = 4
        content_type = "text/plain"
        result_content_type = "text/plain; charset=utf-8"
        env = { LANG = "C.UTF-8" }
        env_inherit = ["HOME"]
        current_dir = "work"
        limits = { open_files = 64 }
        new_privileges = true

        [tasks.far]
        pull = true

        [tasks.pushed]
        push = "http://127.0.0.1:9000/run?x=1"
    "#;
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join(FILE_DEFAULT), text).unwrap();
    let loaded = load(&Flags::default(), &Environment::default(), folder.path()).unwrap();
    let name = |text| Name::new(text).unwrap();
    let count = counting(folder.path());
    let far = TaskConfig::new(RunnerConfig::Pull).unwrap();
    let pushed = TaskConfig::new(RunnerConfig::Push {
        url: "http://127.0.0.1:9000/run?x=1".into(),
    });
    let pushed = pushed.unwrap();
    assert_eq!(pushed.concurrency, 64);
    let expected = Config {
        listen: "[::1]:9000".parse().unwrap(),
        insecure: true,
        store: StoreUrl::Memory,
        shutdown_grace: Duration::from_mins(1),
        max_input: 2 << 20,
        max_result: 4 << 20,
        max_buffered: 128 << 20,
        max_bulk: 32 << 20,
        retain: Duration::from_hours(2),
        allowed_origins: vec!["https://app.example.com".into()],
        strict_queues: true,
        queues: [
            (name("plain"), QueueSettings::default()),
            (
                name("texts"),
                QueueSettings {
                    paused: None,
                    max_depth: Some(1_000_000),
                    max_concurrency: Some(8),
                    rate_limit: Some(RateLimit {
                        limit: 100,
                        period: Duration::from_secs(1),
                    }),
                    group_concurrency: Some(2),
                },
            ),
        ]
        .into(),
        tasks: [
            (name("count"), count),
            (name("far"), far),
            (name("pushed"), pushed),
        ]
        .into(),
        ..Config::default()
    };
    assert_eq!(loaded.config, expected);
}

/// Files, and how what is said of them begins.
const MISTAKES: &[(&str, &str)] = &[
    (
        "lisen = \"x\"",
        "anteroom.toml:1:1: unknown key \"lisen\"; expected one of listen, ",
    ),
    (
        "listen = 8080",
        "anteroom.toml:1:10: listen is an integer; expected a string",
    ),
    (
        "listen = \"8080\"",
        "anteroom.toml:1:10: listen is \"8080\"; expected an IP address ",
    ),
    (
        "\nretain = \"91d\"",
        "anteroom.toml:2:10: retain is 91d; the most is 2160h",
    ),
    (
        "retain = 30",
        "anteroom.toml:1:10: retain is an integer; expected a duration such as \"30s\"",
    ),
    (
        "max_input = 0",
        "anteroom.toml:1:13: max_input is 0; the least is 1 byte",
    ),
    (
        "max_input = \"1TiB\"",
        "anteroom.toml:1:13: max_input is \"1TiB\"; expected a size ",
    ),
    (
        "max_input = \"1GiB\"",
        "anteroom.toml:1:13: max_input is 1GiB; the most is 512MiB",
    ),
    (
        "max_result = true",
        "anteroom.toml:1:14: max_result is a boolean; expected a size ",
    ),
    (
        "max_buffered = \"1KiB\"",
        "configuration: max_buffered is 1KiB; the least is max_inp",
    ),
    ("store = \"postgres://h\"", "anteroom.toml:1:9: store "),
    (
        "allowed_origins = [\"*\"]",
        "anteroom.toml:1:20: allowed_origins[0] is \"*\"; expect",
    ),
    (
        "max_bulk = \"1GiB\"",
        "anteroom.toml:1:12: max_bulk is 1GiB; the most is 512MiB",
    ),
    (
        "strict_queues = 1",
        "anteroom.toml:1:17: strict_queues is an integer; expected true or false",
    ),
    (
        "tokens = 1",
        "anteroom.toml:1:10: tokens is an integer; expected tables [[tokens]]",
    ),
    (
        "queues = []",
        "anteroom.toml:1:10: queues is an array; expected a table",
    ),
    (
        "[queues.Default]",
        "anteroom.toml:1:9: queue \"Default\" has 'D' at byte 0; ",
    ),
    (
        "[queues.\"anteroom.callback\"]",
        "anteroom.toml:1:9: queue \"anteroom.callback\" begins with",
    ),
    (
        "schedules = 1",
        "anteroom.toml:1:13: schedules is an integer; expected a table",
    ),
    (
        "[tasks.A]",
        "anteroom.toml:1:8: task \"A\" has 'A' at byte 0; a name is ",
    ),
    (
        "[tasks.\"anteroom.x\"]",
        "anteroom.toml:1:8: task \"anteroom.x\" begins with \"ante",
    ),
    (
        "[tasks.a]",
        "anteroom.toml:1:8: task a has nobody to run it; expected exec = ",
    ),
    (
        "[tasks]\na = 1",
        "anteroom.toml:2:5: tasks.a is an integer; expected a table",
    ),
    (
        "[tasks.a]\nexec = []",
        "anteroom.toml:2:8: exec names no program; expected ",
    ),
    (
        "[tasks.a]\nexec = \"wc -w\"",
        "anteroom.toml:2:8: exec is a string; expected a list ",
    ),
    (
        "[tasks.a]\nexec = [\"wc\", 3]",
        "anteroom.toml:2:15: exec[1] is an integer; expected",
    ),
    (
        "[tasks.a]\nexec = [\"a\"]\npull = true",
        "anteroom.toml:2:8: task a has both exec an",
    ),
    (
        "[tasks.a]\npull = true\nenv = {}",
        "anteroom.toml:3:7: env is for exec, but workers",
    ),
    (
        "[tasks.a]\npush = 3",
        "anteroom.toml:2:8: push is an integer; expected the URL of a service",
    ),
    (
        "[tasks.a]\npush = \"x.example\"",
        "anteroom.toml:2:8: push does not begin with http:// or https://",
    ),
    (
        "[tasks.a]\npush = \"http://u:p@x/\"",
        "anteroom.toml:2:8: push has a user name or password before the host",
    ),
    (
        "[tasks.a]\npush = \"http://x/#y\"",
        "anteroom.toml:2:8: push has a fragment",
    ),
    (
        "[tasks.a]\npush = \"http://x\"\nenv = {}",
        "anteroom.toml:3:7: env is for exec, but task a is pushed",
    ),
    (
        "[tasks.a]\npush = \"http://x\"\npull = true",
        "anteroom.toml:2:8: task a has both push and pull; expected one of them",
    ),
    (
        "[tasks.a]\npull = true\nschema = \"none.json\"",
        "anteroom.toml:3:10: schema cannot be read from ",
    ),
    (
        "[tasks.a]\npull = true\ntimeot = 1",
        "anteroom.toml:3:1: unknown key \"timeot\"; exp",
    ),
    (
        "[tasks.a]\npull = true\ntimeout = \"10ms\"",
        "anteroom.toml:3:11: timeout is 10ms; the least is 100ms",
    ),
    (
        "[tasks.a]\npull = true\nmax_attempts = 101",
        "anteroom.toml:3:16: max_attempts is 101; the most is 100",
    ),
    (
        "[tasks.a]\npull = true\nconcurrency = \"4\"",
        "anteroom.toml:3:15: concurrency is a string; expected a whole number from 1 to 10000",
    ),
    (
        "[tasks.a]\npull = true\nbackoff = { factor = 0.5 }",
        "anteroom.toml:3:22: backoff.factor is 0.5; the least is 1",
    ),
    (
        "[tasks.a]\npull = true\nbackoff = { jitter = nan }",
        "anteroom.toml:3:22: backoff.jitter is nan; expected a number from 0 to 1",
    ),
    (
        "[tasks.a]\nexec = [\"a\"]\nenv = { \"A=B\" = \"x\" }",
        "anteroom.toml:3:9: env \"A=B\" is not the name of a variable",
    ),
    (
        "[tasks.a]\nexec = [\"a\"]\nenv = { ANTEROOM_JOB_ID = \"x\" }",
        "anteroom.toml:3:9: env \"ANTEROOM_JOB_ID\" begins with \"ANTEROOM_\", which is kept",
    ),
    (
        "[tasks.a]\nexec = [\"a\"]\nenv_inherit = [\"HOME\", \"ANTEROOM_STORE\"]",
        "anteroom.toml:3:24: env_inherit[1] \"ANTEROOM_STORE\" begins with \"ANTEROOM_\", which",
    ),
    (
        "[tasks.a]\nexec = [\"a\"]\nenv = { TRACEPARENT = \"x\" }",
        "anteroom.toml:3:9: env \"TRACEPARENT\" is kept for what the server says itself",
    ),
    (
        "[tasks.a]\nexec = [\"a\"]\ncurrent_dir = 1",
        "anteroom.toml:3:15: current_dir is an integer; expected a string",
    ),
    (
        "[tasks.a]\nexec = [\"a\"]\nlimits = { cpu = \"500ms\" }",
        "anteroom.toml:3:18: limits.cpu is 500ms; the least is 1s",
    ),
    (
        "[tasks.a]\nexec = [\"a\"]\nlimits = { memory = 1024 }",
        "anteroom.toml:3:21: limits.memory is 1024; the least is 16MiB",
    ),
    (
        "[tasks.a]\nexec = [\"a\"]\nlimits = { open_files = 3 }",
        "anteroom.toml:3:25: limits.open_files is 3; the least is 16",
    ),
    (
        "[tasks.a]\nexec = [\"a\"]\nlimits = { processes = 0 }",
        "anteroom.toml:3:24: limits.processes is 0; the least is 1",
    ),
    (
        "[tasks.a]\nexec = [\"a\"]\nlimits = { file_size = true }",
        "anteroom.toml:3:24: limits.file_size is a boolean; expected a size ",
    ),
    (
        "[tasks.a]\nexec = [\"a\"]\nlimits = { stack = 1 }",
        "anteroom.toml:3:12: unknown key \"stack\"; expected one of cpu, memory, ",
    ),
    (
        "[tasks.a]\nexec = [\"a\"]\nuser = \"no-such-user\"",
        "anteroom.toml:3:8: user is \"no-such-user\", a user whom this machine does not know; ",
    ),
    (
        "[tasks.a]\nexec = [\"a\"]\nnew_privileges = 1",
        "anteroom.toml:3:18: new_privileges is an integer; expected true or false",
    ),
    (
        "[tasks.a]\npull = true\nuser = \"root\"",
        "anteroom.toml:3:8: user is for exec, but workers",
    ),
    ("a = \"\u{e4}\" b", "anteroom.toml:1:9: "),
];

/// Writes a configuration with a task that has a schema, beside that schema, and reads it.
#[cfg(feature = "schema")]
fn load_schema(schema: &str, content_type: &str) -> Result<Loaded, ConfigError> {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("schemas")).unwrap();
    std::fs::write(folder.path().join("schemas/a.json"), schema).unwrap();
    let text = format!("[tasks.a]\npull = true\nschema = \"schemas/a.json\"\n{content_type}");
    std::fs::write(folder.path().join(FILE_DEFAULT), text).unwrap();
    // From another folder: the schema's path is relative to the file.
    let flags = Flags {
        config: Some(folder.path().join(FILE_DEFAULT)),
        ..Flags::default()
    };
    load(&flags, &Environment::default(), Path::new("/"))
}

#[cfg(feature = "schema")]
#[test]
fn a_schema_is_read_and_understood_at_the_start() {
    let loaded = load_schema("{\"type\": \"object\"}", "").unwrap();
    let task = &loaded.config.tasks[&Name::new("a").unwrap()];
    let validator = &task.schema.as_ref().unwrap().validator;
    assert!(validator.check(b"{}").is_empty());
    assert_eq!(validator.check(b"7").len(), 1);
    for content_type in ["application/json", "application/vnd.x+json; v=1"] {
        let line = format!("content_type = \"{content_type}\"");
        assert!(load_schema("{}", &line).is_ok(), "{content_type}");
    }
    for (schema, content_type, place, expected) in [
        ("{", "", ":3:10: schema ", " is not JSON"),
        ("{\"type\": 7}", "", ":3:10: schema ", " is no JSON Schema"),
        (
            "{\"$ref\": \"https://example.com/x\"}",
            "",
            ":3:10: schema ",
            "example.com",
        ),
        (
            "{}",
            "content_type = \"text/plain\"",
            ":4:16: content_type is ",
            "JSON",
        ),
    ] {
        let error = load_schema(schema, content_type).unwrap_err().to_string();
        assert!(error.contains(place) && error.contains(expected), "{error}");
    }
}

#[test]
fn a_mistake_is_told_with_its_line_and_column() {
    for (text, expected) in MISTAKES {
        let error = load_text(text).unwrap_err().to_string();
        assert!(
            error.starts_with(expected),
            "{text}\ngave     {error}\nexpected {expected}"
        );
        assert_eq!(error.lines().count(), 1, "{text}\ngave {error}");
    }
}

#[test]
fn what_is_too_long_for_a_program_is_told() {
    let long = "x".repeat(131_072);
    for (text, expected) in [
        (
            format!("[tasks.a]\nexec = [\"a\", \"{long}\"]"),
            "anteroom.toml:2:14: exec[1] is 131072 bytes; a program can be given 131071",
        ),
        (
            format!("[tasks.a]\nexec = [\"a\"]\nenv = {{ BIG = \"{long}\" }}"),
            "anteroom.toml:3:15: env.BIG is 131072 bytes; a program can be given 131067",
        ),
    ] {
        assert_eq!(load_text(&text).unwrap_err().to_string(), expected);
    }
}

#[test]
fn all_mistakes_are_told_at_once_in_the_order_of_the_file() {
    let text = "store = \"x\"\nlisten = 1\n[tasks.a]\npull = 3\n[tasks.b]\ntimeout = 4\n";
    let error = load_text(text).unwrap_err().to_string();
    let places: Vec<_> = error
        .lines()
        .map(|line| line.split(": ").next().unwrap())
        .collect();
    let expected = [
        "anteroom.toml:1:9",
        "anteroom.toml:2:10",
        "anteroom.toml:4:8",
        "anteroom.toml:5:8",
    ];
    assert_eq!(places, expected, "{error}");
}

#[test]
fn flags_win_over_the_environment_and_that_over_the_file() {
    let text = "store = \"memory:\"\nlisten = \"127.0.0.1:1\"\nretain = \"1h\"\nmax_input = 1";
    let environment = Environment::from([
        ("ANTEROOM_LISTEN", "127.0.0.1:2"),
        ("ANTEROOM_RETAIN", "2h"),
        ("ANTEROOM_STRICT_QUEUES", "true"),
        ("OTHER", "x"),
    ]);
    let flags = Flags {
        listen: Some("127.0.0.1:3".into()),
        ..Flags::default()
    };
    let loaded = load_file(text, &environment, &flags).unwrap();
    assert_eq!(loaded.config.listen.port(), 3);
    assert_eq!(loaded.config.retain, Duration::from_hours(2));
    assert_eq!(loaded.config.max_input, 1);
    assert!(loaded.config.strict_queues);
    assert_eq!(loaded.warnings, Vec::<String>::new());
}

#[test]
fn mistakes_in_flags_and_variables_are_told_too() {
    let environment = Environment::from([
        ("ANTEROOM_MAX_INPUT", "much"),
        ("ANTEROOM_LOG", "info,=="),
        ("ANTEROOM_LOG_FORMAT", "xml"),
    ]);
    let flags = Flags {
        store: Some("redis:".into()),
        ..Flags::default()
    };
    let error = load_file("", &environment, &flags).unwrap_err().to_string();
    for place in [
        "ANTEROOM_MAX_INPUT: ",
        "ANTEROOM_LOG: ",
        "ANTEROOM_LOG_FORMAT: ",
        "--store: ",
    ] {
        assert!(
            error.lines().any(|line| line.starts_with(place)),
            "{place} in {error}"
        );
    }
}

#[test]
fn a_variable_that_nothing_reads_is_warned_of() {
    let environment = Environment::from([("ANTEROOM_LISTN", "x"), ("ANTEROOM_SERVER", "y")]);
    let loaded = load_file("", &environment, &Flags::default()).unwrap();
    assert_eq!(
        loaded.warnings,
        ["ANTEROOM_LISTN is set, but nothing reads it"]
    );
}

#[test]
fn listening_for_strangers_needs_tokens_or_insecure() {
    let open = "listen = \"0.0.0.0:8080\"";
    let error = load_text(open).unwrap_err().to_string();
    assert!(
        error.starts_with("anteroom.toml:1:10: listen is 0.0.0.0:8080, where "),
        "{error}"
    );
    for way_out in ["[[tokens]]", "`anteroom token`", "insecure = true"] {
        assert!(error.contains(way_out), "{error}");
    }
    let digest = "0".repeat(64);
    let token = format!("[[tokens]]\nname = \"a\"\nsha256 = \"{digest}\"\nscopes = [\"read\"]");
    assert!(load_text(&format!("{open}\n{token}")).is_ok());
    assert!(load_text(&format!("{open}\ninsecure = true")).is_ok());
    let flags = Flags {
        insecure: true,
        ..Flags::default()
    };
    assert!(load_file(open, &Environment::default(), &flags).is_ok());
    assert!(load_text("listen = \"[::ffff:127.0.0.1]:1\"").is_ok());
}

#[test]
fn paths_in_the_file_are_relative_to_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let sub = folder.path().join("etc");
    std::fs::create_dir(&sub).unwrap();
    std::fs::write(sub.join("a.toml"), "store = \"sqlite:jobs.db\"").unwrap();
    let flags = Flags {
        config: Some("etc/a.toml".into()),
        ..Flags::default()
    };
    let loaded = load(&flags, &Environment::default(), folder.path()).unwrap();
    assert_eq!(loaded.config.store, StoreUrl::Sqlite(sub.join("jobs.db")));
    let environment = Environment::from([("ANTEROOM_STORE", "sqlite:jobs.db")]);
    let loaded = load(&flags, &environment, folder.path()).unwrap();
    assert_eq!(
        loaded.config.store,
        StoreUrl::Sqlite(folder.path().join("jobs.db"))
    );
}

#[test]
fn the_first_byte_that_is_not_utf_8_is_told_with_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let bytes = b"store = \"memory:\"\n# \xc3\xa4 \xe4\nlisten = 3\n";
    std::fs::write(folder.path().join(FILE_DEFAULT), bytes).unwrap();
    let error = load(&Flags::default(), &Environment::default(), folder.path()).unwrap_err();
    let expected = "anteroom.toml:2:5: the byte 0xe4 is not UTF-8";
    assert_eq!(error.to_string(), expected);
}

#[test]
fn a_named_file_has_to_be_there() {
    let folder = tempfile::tempdir().unwrap();
    let flags = Flags {
        config: Some("nowhere.toml".into()),
        ..Flags::default()
    };
    let error = load(&flags, &Environment::default(), folder.path()).unwrap_err();
    assert!(
        error.to_string().starts_with("cannot read nowhere.toml: "),
        "{error}"
    );
}
