//! The form of the route table: no route without what it needs of its caller's token.
//!
//! A route is a line with a method, a path, a [`Needs`] and an endpoint; [`Routes`] puts the check
//! before the endpoint, and so before the body is read. There is no other way to add one. The
//! table can be read ([`Routes::table`]), which is what the tests of the access matrix go by.

use super::App;
use super::access::Scope;
use super::call::Call;
use super::edge::{Edged, Endpoint};
use super::problem::Problem;
use axum::Router;
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodFilter, on};
use futures_util::FutureExt;
use futures_util::future::{Either, ready};
use http::Method;

/// What a route needs of its caller's token. The scope `admin` covers every need.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Needs {
    /// No token: it is open to all.
    Nothing,
    /// `submit`. It hands in one job, which counts against the token's rate.
    Submit,
    /// `submit`. It hands in jobs that its handler counts, once it knows how many they are.
    SubmitMany,
    /// `submit`. It cancels one job.
    Cancel,
    /// `read`.
    Read,
    /// `read` of all tasks: what it shows is not told apart by task.
    ReadAll,
    /// `work`.
    Work,
    /// `admin`.
    Admin,
    /// `admin` of all tasks: what it changes concerns jobs of any.
    AdminAll,
}

impl Needs {
    /// Returns the scope that covers it beside `admin`; none where no token is needed.
    pub const fn scope(self) -> Option<Scope> {
        match self {
            Self::Nothing => None,
            Self::Submit | Self::SubmitMany | Self::Cancel => Some(Scope::Submit),
            Self::Read | Self::ReadAll => Some(Scope::Read),
            Self::Work => Some(Scope::Work),
            Self::Admin | Self::AdminAll => Some(Scope::Admin),
        }
    }

    /// Tells whether a token that is for some tasks only is not enough.
    pub const fn is_of_all_tasks(self) -> bool {
        matches!(self, Self::ReadAll | Self::AdminAll)
    }

    /// Tells whether a token's rate of submits applies.
    pub(crate) const fn is_rated(self) -> bool {
        matches!(self, Self::Submit | Self::SubmitMany)
    }
}

/// A line of the route table.
#[derive(Clone, Debug)]
pub struct Route {
    /// The method. Where it is GET, HEAD is taken too.
    pub method: Method,
    /// The path, with names in braces for parts that vary.
    pub path: &'static str,
    /// What a token has to cover.
    pub needs: Needs,
}

/// Routes being put together.
#[derive(Debug, Default)]
pub(crate) struct Routes {
    router: Router<App>,
    table: Vec<Route>,
}

/// One line a route. Lines of the same path with other methods add up.
impl Routes {
    pub(crate) fn get(
        self,
        path: &'static str,
        needs: Needs,
        endpoint: impl Endpoint<App>,
    ) -> Self {
        self.add(Method::GET, MethodFilter::GET, path, needs, endpoint)
    }

    pub(crate) fn post(
        self,
        path: &'static str,
        needs: Needs,
        endpoint: impl Endpoint<App>,
    ) -> Self {
        self.add(Method::POST, MethodFilter::POST, path, needs, endpoint)
    }

    pub(crate) fn delete(
        self,
        path: &'static str,
        needs: Needs,
        endpoint: impl Endpoint<App>,
    ) -> Self {
        self.add(Method::DELETE, MethodFilter::DELETE, path, needs, endpoint)
    }

    pub(crate) fn put(
        self,
        path: &'static str,
        needs: Needs,
        endpoint: impl Endpoint<App>,
    ) -> Self {
        self.add(Method::PUT, MethodFilter::PUT, path, needs, endpoint)
    }

    #[allow(
        dead_code,
        reason = "whether a route of this version takes the method or not"
    )]
    pub(crate) fn patch(
        self,
        path: &'static str,
        needs: Needs,
        endpoint: impl Endpoint<App>,
    ) -> Self {
        self.add(Method::PATCH, MethodFilter::PATCH, path, needs, endpoint)
    }

    fn add(
        mut self,
        method: Method,
        filter: MethodFilter,
        path: &'static str,
        needs: Needs,
        endpoint: impl Endpoint<App>,
    ) -> Self {
        let guarded = Guarded { needs, endpoint };
        self.router = self.router.route(path, on(filter, Edged::new(guarded)));
        self.table.push(Route {
            method,
            path,
            needs,
        });
        self
    }

    /// Returns the lines, in their order.
    pub(crate) fn table(self) -> Vec<Route> {
        self.table
    }

    /// Returns the router.
    pub(crate) fn router(self) -> Router<App> {
        self.router
    }
}

/// An endpoint behind the check of its caller's token.
#[derive(Clone, Debug)]
struct Guarded<E> {
    needs: Needs,
    endpoint: E,
}

impl<E: Endpoint<App>> Endpoint<App> for Guarded<E> {
    /// No future of its own, so that nothing is kept twice while the endpoint is at it.
    fn answer(
        self,
        app: App,
        mut call: Call,
    ) -> impl Future<Output = Result<Response, Problem>> + Send + 'static {
        match app.tokens.admit(&mut call.parts.headers, self.needs) {
            Ok(access) => call.admit(access),
            Err(problem) => return Either::Right(Either::Left(ready(Err(problem)))),
        }
        if self.needs.is_rated() && call.access().has_rate() {
            return Either::Right(Either::Right(self.rated(app, call).boxed()));
        }
        Either::Left(self.endpoint.answer(app, call))
    }
}

impl<E: Endpoint<App>> Guarded<E> {
    /// The answer is waited for, to say beside it what is left of the rate.
    async fn rated(self, app: App, call: Call) -> Result<Response, Problem> {
        let access = call.access().clone();
        let clock = app.engine.clock();
        let counted = match self.needs {
            Needs::SubmitMany => access.has_room(clock.now()),
            _ => access.take_submits(1, clock.now()),
        };
        let answered = match counted {
            Ok(()) => self.endpoint.answer(app.clone(), call).await,
            Err(problem) => Err(problem),
        };
        let mut response = answered.unwrap_or_else(IntoResponse::into_response);
        access.tell_rate(response.headers_mut(), clock.now());
        Ok(response)
    }
}

/// Refuses whoever asks for what is not there, under `/v1`, without a token.
pub(crate) fn check_unrouted(app: &App, call: &Call) -> Result<(), Problem> {
    let path = call.parts.uri.path();
    if path == "/v1" || path.starts_with("/v1/") {
        app.tokens.identify(call.headers())?;
    }
    Ok(())
}
