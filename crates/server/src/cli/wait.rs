//! Waits for a job's end, for longer than a server waits within one call.
//!
//! For a person it asks for every change, to draw it; for a program only for the end. A server that
//! is started anew meanwhile is waited for: jobs survive that, and so does the wait.

use super::client::{Call, Client, body};
use super::jobs::Answer;
use super::progress::Line;
use super::show::Waiting;
use super::{Stopped, cannot_start};
use anteroom::clock::Clock;
use http::{HeaderValue, Method, StatusCode, header};
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::Instant;

/// The longest that a server waits within one call.
const WAIT_OF_A_CALL_MAX: Duration = Duration::from_mins(1);
/// How long to leave a server alone that answered before the wait was over.
const PAUSE: Duration = Duration::from_secs(1);
/// How long to leave it alone after each change, so that a job with much to tell is drawn a few
/// times a second.
const PAUSE_AFTER_CHANGE: Duration = Duration::from_millis(100);
/// How long a server may be in trouble before the wait is given up: longer than a restart.
const TROUBLE_MAX: Duration = Duration::from_secs(30);
/// How often a job's place in its queue is asked for, where that is known.
const POSITION_EVERY: Duration = Duration::from_secs(2);

/// How long to wait. It may take several calls.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wait {
    /// None: so far ahead that it does not come.
    deadline: Option<Instant>,
}

impl Wait {
    pub(super) fn new(span: Duration) -> Self {
        let deadline = Instant::now().checked_add(span);
        Self { deadline }
    }

    /// Returns how much of it the next call takes; none once it is over.
    fn of_a_call(&self) -> Option<Duration> {
        let left = match self.deadline {
            Some(deadline) => deadline.checked_duration_since(Instant::now())?,
            None => WAIT_OF_A_CALL_MAX,
        };
        (!left.is_zero()).then(|| left.min(WAIT_OF_A_CALL_MAX))
    }
}

/// Ctrl-C, from when this is made on.
pub(super) struct Interrupt(Signal);

impl Interrupt {
    pub(super) fn new() -> Result<Self, Stopped> {
        signal(SignalKind::interrupt())
            .map(Self)
            .map_err(cannot_start)
    }

    /// Does some work, unless Ctrl-C comes first: then it ends with this message.
    pub(super) async fn or<T>(
        &mut self,
        work: impl Future<Output = Result<T, Stopped>>,
        message: impl FnOnce() -> String,
    ) -> Result<T, Stopped> {
        tokio::select! {
            done = work => done,
            _ = self.0.recv() => Err(Stopped::Interrupted(message())),
        }
    }
}

/// Waits until the job is done or the wait is over, and returns it as it is then. What is known of
/// it before may say more than what is asked for: where it waits.
///
/// # Errors
///
/// [`Stopped::Interrupted`] after Ctrl-C: the job goes on.
pub(super) async fn wait_for(
    client: &Client,
    id: &str,
    known: Option<Answer>,
    wait: Wait,
    interrupt: &mut Interrupt,
) -> Result<Answer, Stopped> {
    let watch = Watch {
        client,
        id,
        line: Line::new(),
    };
    let message = || {
        format!(
            "job {id} goes on. `anteroom job {id} --wait 1m` waits for it again, \
             `anteroom cancel {id}` ends it"
        )
    };
    interrupt.or(watch.follow(known, wait), message).await
}

/// A job that is watched.
struct Watch<'a> {
    client: &'a Client,
    id: &'a str,
    line: Line,
}

/// What a call said: the job and its tag, unless it is as it was.
type Said = Option<(Answer, Option<HeaderValue>)>;

impl Watch<'_> {
    async fn follow(mut self, known: Option<Answer>, wait: Wait) -> Result<Answer, Stopped> {
        // A look, for there to be something to show and to return. A server that has not answered
        // before is not waited for.
        let said = if known.is_some() {
            self.ask(wait, None, None).await?
        } else {
            let look = call(self.client, self.id, "", None, None);
            self.line.during(look).await?
        };
        let Some((mut latest, mut tag)) = said else {
            let message = "the server did not show the job".to_owned();
            return Err(Stopped::Trouble(message));
        };
        let waiting = known.and_then(|known| known.job.waiting);
        if latest.job.state == "ready" {
            latest.job.waiting = waiting;
        }
        while !latest.job.done {
            self.line.show(&latest.job);
            let Some(mut asked) = wait.of_a_call() else {
                break;
            };
            let knows_position = self.line.is_shown() && latest.job.position().is_some();
            if knows_position {
                asked = asked.min(POSITION_EVERY);
            }
            let seen = if self.line.is_shown() {
                tag.clone()
            } else {
                None
            };
            let asked_at = Instant::now();
            let said = self.ask(wait, Some(asked), seen).await?;
            let is_new = said.is_some();
            if let Some(said) = said {
                (latest, tag) = said;
            } else if knows_position {
                latest.job.waiting = self.position().await;
            }
            if latest.job.done {
                break;
            }
            let pause = match (is_new && self.line.is_shown(), asked_at.elapsed() < asked) {
                (true, _) => PAUSE_AFTER_CHANGE,
                (false, true) => PAUSE.min(asked),
                (false, false) => continue,
            };
            self.line.during(Clock::system().sleep(pause)).await;
        }
        Ok(latest)
    }

    /// Asks for the job, again while the server is in trouble, and for the wait at most.
    async fn ask(
        &mut self,
        wait: Wait,
        asked: Option<Duration>,
        seen: Option<HeaderValue>,
    ) -> Result<Said, Stopped> {
        let mut trouble_since = None;
        loop {
            let call = call(self.client, self.id, "", asked, seen.clone());
            let message = match self.line.during(call).await {
                Err(Stopped::Trouble(message)) => message,
                said => return said,
            };
            let since = *trouble_since.get_or_insert_with(Instant::now);
            if since.elapsed() >= TROUBLE_MAX || wait.of_a_call().is_none() {
                let id = self.id;
                let message = format!("{message}\njob {id} was waited for, and may go on");
                return Err(Stopped::Trouble(message));
            }
            self.line.say("trouble with the server".to_owned());
            self.line.during(Clock::system().sleep(PAUSE)).await;
        }
    }

    /// Asks where in its queue the job is by now. A server that does not say is not asked again.
    async fn position(&mut self) -> Option<Waiting> {
        let said = call(self.client, self.id, "?include=waiting", None, None);
        let said = self.line.during(said).await;
        said.ok()
            .flatten()
            .and_then(|(answer, _)| answer.job.waiting)
    }
}

/// Asks once.
async fn call(
    client: &Client,
    id: &str,
    query: &str,
    asked: Option<Duration>,
    seen: Option<HeaderValue>,
) -> Result<Said, Stopped> {
    let mut call = Call::new(Method::GET, format!("/v1/jobs/{id}{query}"));
    call.headers
        .extend(seen.map(|tag| (header::IF_NONE_MATCH, tag)));
    let answer = client.call(call.waiting(asked)).await?;
    if answer.status() == StatusCode::NOT_MODIFIED {
        return Ok(None);
    }
    let tag = answer.headers().get(header::ETAG).cloned();
    Ok(Some((Answer::read(body(answer).await?)?, tag)))
}
