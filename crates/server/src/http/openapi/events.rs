//! Streams of events, described.

use super::jobs::ABSENT;
use super::operation::{Call, Reply, anything};
use super::parts::{Field, last_event_id, path_job, query_of};
use super::schemas::Name;

const STREAM: &str = "retry: 2000\n\nid: 1.0.1\nevent: state\n\
data: {\"id\":\"019aaa2e-7c00-7000-8000-3f0c5a1b2c3d\",\"state\":\"ready\",\"attempt\":0}\n\n\
id: 3.1.0\nevent: progress\ndata: {\"fraction\":0.5,\"message\":\"half of the pages\"}\n\n";

pub(super) fn calls() -> Vec<Call> {
    vec![
        Call::get("followJob", "/v1/jobs/{id}/events")
            .says(
                "Events",
                "What happens to a job, as a stream",
                "Server-Sent Events: what happened to the job, from its beginning or after \
                 `Last-Event-ID`, and then what happens to it. It ends after the final state.\n\n\
                 - `state` `{\"id\", \"state\", \"attempt\"}`: the job entered a state.\n\
                 - `progress` `{\"fraction\", \"message\"}`: how far its attempt has come.\n\
                 - `log` `{\"attempt\", \"stream\", \"line\"}`: a line of its attempt's log.\n\
                 - `dropped` `{\"count\"}`: so many events are missing right here.\n\n\
                 Ids are opaque, and rise. A comment every 15 s says that the server is still there.",
            )
            .takes(path_job())
            .takes(last_event_id())
            .replies(
                200,
                stream("The stream. Where it ends early come back with `Last-Event-ID`."),
            )
            .replies(
                204,
                Reply::new(
                    "The job has ended, and `Last-Event-ID` is its final event: there is nothing \
                     to come.",
                )
                .fields(&[Field::CacheControl]),
            )
            .problems(&ABSENT),
        Call::get("followJobs", "/v1/events")
            .says(
                "Events",
                "What happens to all jobs, as a stream",
                "The same events, of all jobs of a task or in a queue, from now on; `progress` and \
                 `log` name their job in `id`. It does not end. It tells of what the server that is \
                 asked brings about, as well as it can: for what must not be missed follow the job.",
            )
            .takes(query_of::<Name>("task", "Of this task."))
            .takes(query_of::<Name>("queue", "In this queue."))
            .takes(last_event_id())
            .replies(200, stream("The stream.")),
    ]
}

fn stream(what: &'static str) -> Reply {
    // Each event would be held to a schema: there is one for the data of each.
    let mut content = anything();
    content.example = Some(STREAM.into());
    Reply::new(what)
        .content("text/event-stream", content)
        .fields(&[Field::AccelBuffering, Field::CacheControl])
}
