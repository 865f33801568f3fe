//! Who may do what: tokens, what each covers, and the check of a request's token.
//!
//! The route table says what a route needs (`routes.rs`), [`Tokens::admit`] whether the token
//! covers it, and [`Access`] goes with the request to its handler, which asks it about tasks and
//! jobs. What a token is not for is not there: its jobs and tasks read as unknown.

use super::App;
use super::problem::{Kind, Problem};
use super::rate::{Meter, NoRoom, RateLimit, seconds};
use super::read::unknown;
use super::routes::Needs;
use anteroom::core::{JobId, Name, Timestamp};
use anteroom::store::Found;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use sha2::{Digest, Sha256};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use subtle::{Choice, ConditionallySelectable, ConstantTimeEq};

const RATE: HeaderName = HeaderName::from_static("ratelimit");
const RATE_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
/// Asks for a token, without a word on what is wrong: there was none.
const CHALLENGE: &str = "Bearer realm=\"anteroom\"";

/// Something that a token may cover.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Hands in jobs, and cancels one.
    Submit,
    /// Reads everything under `/v1`, and `/metrics`.
    Read,
    /// Leases jobs, and settles them.
    Work,
    /// Everything.
    Admin,
}

impl Scope {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Submit, Self::Read, Self::Work, Self::Admin];

    /// Returns its word in the configuration and on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Submit => "submit",
            Self::Read => "read",
            Self::Work => "work",
            Self::Admin => "admin",
        }
    }

    /// Returns the scope that `word` stands for.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|scope| scope.as_str() == word)
    }
}

/// A token that the server knows: not itself, but what tells it.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    /// Its name: what logs and idempotency keys call it by. No two tokens share one.
    pub name: Name,
    /// The SHA-256 of the token; several while it is being replaced.
    pub sha256: Vec<[u8; 32]>,
    /// What it covers.
    pub scopes: Vec<Scope>,
    /// The tasks whose jobs it is for; none: all of them.
    pub tasks: Option<Vec<Name>>,
    /// How often it may submit; none: as often as it likes.
    pub rate_limit: Option<RateLimit>,
}

impl fmt::Debug for Token {
    /// Leaves the digests out: they are nobody's business, and no log's.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token")
            .field("name", &self.name)
            .field("scopes", &self.scopes)
            .field("tasks", &self.tasks)
            .field("rate_limit", &self.rate_limit)
            .finish_non_exhaustive()
    }
}

/// A token with what was counted of it.
#[derive(Debug)]
struct Holder {
    token: Token,
    submits: Option<Meter>,
}

/// All tokens of a router; none: it is open. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Tokens(Arc<[Arc<Holder>]>);

impl Tokens {
    pub(crate) fn new(tokens: &[Token]) -> Self {
        let holders = tokens.iter().cloned().map(|token| {
            let submits = token.rate_limit.map(Meter::new);
            Arc::new(Holder { token, submits })
        });
        Self(holders.collect())
    }

    /// Takes the token out of a request's head and returns what it gives access to, if it covers
    /// what the route needs.
    pub(crate) fn admit(&self, headers: &mut HeaderMap, needs: Needs) -> Result<Access, Problem> {
        let access = match needs.scope() {
            None => Access::nobody(),
            Some(scope) => {
                let access = self.identify(headers)?;
                access.check(needs, scope)?;
                access
            }
        };
        // Nobody behind this has a use for it, and what is not there is not logged.
        headers.remove(header::AUTHORIZATION);
        Ok(access)
    }

    /// Returns what the token in a request's head gives access to.
    ///
    /// # Errors
    ///
    /// 401 when there is none, or none that is known here.
    pub(crate) fn identify(&self, headers: &HeaderMap) -> Result<Access, Problem> {
        if self.0.is_empty() {
            return Ok(Access(Who::Anybody));
        }
        let mut fields = headers.get_all(header::AUTHORIZATION).iter();
        let Some(first) = fields.next() else {
            let detail = "this needs a token: Authorization: Bearer …";
            return Err(unauthorized(CHALLENGE, detail));
        };
        if fields.next().is_some() {
            return Err(invalid_token("Authorization is given more than once"));
        }
        let Some(text) = bearer(first.as_bytes()) else {
            let detail = "Authorization is not of the form \"Bearer …\"";
            return Err(unauthorized(CHALLENGE, detail));
        };
        self.holder_of(text)
            .map(|holder| Access(Who::Holder(holder)))
            .ok_or_else(|| invalid_token("the token is none that this server knows"))
    }

    /// Finds whose token this is. How long that takes says nothing about any of them: all digests
    /// are looked at, whichever it is.
    fn holder_of(&self, text: &[u8]) -> Option<Arc<Holder>> {
        let digest = Sha256::digest(text);
        let (mut found, mut at) = (Choice::from(0), 0_u64);
        for (index, holder) in (0_u64..).zip(self.0.iter()) {
            for known in &holder.token.sha256 {
                let is_it = known.as_slice().ct_eq(digest.as_slice());
                at.conditional_assign(&index, is_it);
                found |= is_it;
            }
        }
        let holder = self.0.get(usize::try_from(at).ok()?)?;
        bool::from(found).then(|| holder.clone())
    }
}

/// Returns what follows the scheme `Bearer`, which may be written in any case.
fn bearer(field: &[u8]) -> Option<&[u8]> {
    let space = field.iter().position(|byte| *byte == b' ')?;
    let (scheme, text) = field.split_at(space);
    let text = text.trim_ascii();
    (scheme.eq_ignore_ascii_case(b"Bearer") && !text.is_empty()).then_some(text)
}

fn unauthorized(challenge: &'static str, detail: &str) -> Problem {
    let challenge = HeaderValue::from_static(challenge);
    Problem::new(Kind::Unauthorized, detail).with_header(header::WWW_AUTHENTICATE, challenge)
}

fn invalid_token(detail: &str) -> Problem {
    unauthorized("Bearer realm=\"anteroom\", error=\"invalid_token\"", detail)
}

/// What a request's token gives access to. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Access(Who);

#[derive(Clone, Debug)]
enum Who {
    /// There are no tokens: everybody may do everything.
    Anybody,
    /// The holder of a token.
    Holder(Arc<Holder>),
    /// Nobody looked, as nothing was needed: nothing is given.
    Nobody,
}

impl Access {
    /// Returns access to nothing.
    pub(crate) const fn nobody() -> Self {
        Self(Who::Nobody)
    }

    /// Returns the token's name; empty without tokens.
    pub(crate) fn token_name(&self) -> &str {
        self.holder().map_or("", |holder| &holder.token.name)
    }

    /// Returns the tasks whose jobs may be seen and touched; none: those of any.
    pub(crate) fn tasks(&self) -> Option<&[Name]> {
        match &self.0 {
            Who::Anybody => None,
            Who::Holder(holder) => holder.token.tasks.as_deref(),
            Who::Nobody => Some(&[]),
        }
    }

    /// Tells whether this is one of the tasks that the token is for.
    pub(crate) fn covers(&self, task: &str) -> bool {
        self.tasks()
            .is_none_or(|tasks| tasks.iter().any(|covered| **covered == *task))
    }

    /// Tells whether everything may be done, as far as its tasks go.
    pub(crate) fn is_admin(&self) -> bool {
        match &self.0 {
            Who::Anybody => true,
            Who::Holder(holder) => holder.token.scopes.contains(&Scope::Admin),
            Who::Nobody => false,
        }
    }

    /// Tells whether jobs of this task may be seen and touched that are there already. Those of the
    /// server's own are an administrator's.
    pub(crate) fn sees(&self, task: &Name) -> bool {
        self.covers(task) && (self.is_admin() || !task.is_reserved())
    }

    /// Refuses with 403 the submit or lease of a task that is not covered, whether there is such
    /// a task or not.
    pub(crate) fn check_task(&self, task: &str, scope: Scope) -> Result<(), Problem> {
        if self.covers(task) {
            return Ok(());
        }
        let name = self.token_name();
        let detail = format!("the token {name} is not for the task {task:?}");
        Err(forbidden(scope, detail))
    }

    /// Refuses with 404 a job that may not be seen: it reads as one that never was, also
    /// once it is gone.
    pub(crate) async fn check_job(&self, app: &App, id: JobId) -> Result<(), Problem> {
        if self.tasks().is_none() && self.is_admin() {
            return Ok(());
        }
        match app.engine.store().get(id).await? {
            // A job's task never changes, so that this still holds when the handler looks.
            Found::Here(job) if self.sees(&job.spec.task) => Ok(()),
            // Of what was is not known whose it was.
            Found::Gone | Found::Unknown if self.tasks().is_none() => Ok(()),
            Found::Here(_) | Found::Gone | Found::Unknown => Err(unknown(id)),
        }
    }

    /// Counts so many submits against the token's rate: all of them or, beyond it, none.
    ///
    /// # Errors
    ///
    /// 429 with `Retry-After`; 422 for more than there may ever be at once.
    pub(crate) fn take_submits(&self, count: usize, now: Timestamp) -> Result<(), Problem> {
        match self.submits() {
            Some(meter) => meter
                .take(count, now)
                .map_err(|no_room| beyond_rate(meter.rate(), count, no_room)),
            None => Ok(()),
        }
    }

    /// Refuses a token whose rate has no room for a single submit more, and counts none.
    pub(crate) fn has_room(&self, now: Timestamp) -> Result<(), Problem> {
        match self.submits() {
            Some(meter) => meter
                .has_room(1, now)
                .map_err(|no_room| beyond_rate(meter.rate(), 1, no_room)),
            None => Ok(()),
        }
    }

    /// Tells whether the token has a rate of submits.
    pub(crate) fn has_rate(&self) -> bool {
        self.submits().is_some()
    }

    /// Says beside an answer what the token's rate is, and what is left of it.
    pub(crate) fn tell_rate(&self, headers: &mut HeaderMap, now: Timestamp) {
        let Some(meter) = self.submits() else {
            return;
        };
        let (rate, left) = (meter.rate(), meter.left(now));
        let window = seconds(rate.period).max(1);
        let policy = format!("\"submit\";q={};w={window}", rate.limit);
        let rest = format!(
            "\"submit\";r={};t={}",
            left.count,
            seconds(left.whole_after)
        );
        for (name, text) in [(RATE_POLICY, policy), (RATE, rest)] {
            // Digits and quotes fit into a header.
            if let Ok(value) = HeaderValue::try_from(text) {
                headers.insert(name, value);
            }
        }
    }

    fn holder(&self) -> Option<&Holder> {
        match &self.0 {
            Who::Holder(holder) => Some(holder),
            Who::Anybody | Who::Nobody => None,
        }
    }

    fn submits(&self) -> Option<&Meter> {
        self.holder()?.submits.as_ref()
    }

    /// Refuses with 403 what the token does not cover.
    fn check(&self, needs: Needs, scope: Scope) -> Result<(), Problem> {
        let Some(Holder { token, .. }) = self.holder() else {
            return Ok(());
        };
        let has = |wanted: Scope| token.scopes.contains(&wanted);
        if !has(scope) && !has(Scope::Admin) {
            let covered: Vec<&str> = token.scopes.iter().map(|scope| scope.as_str()).collect();
            let (name, covered, wanted) = (&token.name, covered.join(", "), scope.as_str());
            let detail = format!("the token {name} covers {covered}; this needs {wanted}");
            return Err(forbidden(scope, detail));
        }
        if needs.is_of_all_tasks() && token.tasks.is_some() {
            let name = &token.name;
            let detail = format!("the token {name} is for some tasks; this concerns all of them");
            return Err(forbidden(scope, detail));
        }
        Ok(())
    }
}

fn forbidden(scope: Scope, detail: String) -> Problem {
    let challenge = format!(
        "{CHALLENGE}, error=\"insufficient_scope\", scope=\"{}\"",
        scope.as_str()
    );
    let challenge = HeaderValue::try_from(challenge).unwrap_or(HeaderValue::from_static(CHALLENGE));
    Problem::new(Kind::Forbidden, detail).with_header(header::WWW_AUTHENTICATE, challenge)
}

fn beyond_rate(rate: RateLimit, count: usize, no_room: NoRoom) -> Problem {
    let (limit, window) = (rate.limit, seconds(rate.period).max(1));
    match no_room {
        NoRoom::Ever => {
            let detail = format!(
                "these are {count} jobs, and the token's rate lets {limit} at once through at the \
                 most; split them up"
            );
            Problem::new(Kind::InvalidBody, detail)
        }
        NoRoom::For(wait) => {
            let wait = seconds(wait).max(1);
            let detail = format!(
                "the token may submit {limit} jobs in {window} s, and has; there is room again in \
                 {wait} s"
            );
            let problem = Problem::new(Kind::RateLimited, detail);
            problem.with_retry_after(Duration::from_secs(wait))
        }
    }
}
