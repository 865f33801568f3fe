//! The form of the route table: no route without what it needs of its caller's token.
//!
//! A route is a line with a method, a path, a [`Needs`] and a handler; [`Routes`] puts the check
//! before the handler, and so before the body is read. There is no other way to add one. The
//! table can be read ([`Routes::table`]), which is what the tests of the access matrix go by.

use super::App;
use super::access::{Access, Scope};
use super::call::Call;
use super::edge::Edged;
use axum::Router;
use axum::extract::Request;
use axum::handler::Handler;
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodFilter, on};
use futures_util::FutureExt;
use futures_util::future::{Either, Ready, ready};
use http::Method;
use std::pin::Pin;

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
    pub(crate) fn get<T: 'static>(
        self,
        path: &'static str,
        needs: Needs,
        handler: impl Handler<T, App>,
    ) -> Self {
        self.add(Method::GET, MethodFilter::GET, path, needs, handler)
    }

    pub(crate) fn post<T: 'static>(
        self,
        path: &'static str,
        needs: Needs,
        handler: impl Handler<T, App>,
    ) -> Self {
        self.add(Method::POST, MethodFilter::POST, path, needs, handler)
    }

    pub(crate) fn delete<T: 'static>(
        self,
        path: &'static str,
        needs: Needs,
        handler: impl Handler<T, App>,
    ) -> Self {
        self.add(Method::DELETE, MethodFilter::DELETE, path, needs, handler)
    }

    pub(crate) fn put<T: 'static>(
        self,
        path: &'static str,
        needs: Needs,
        handler: impl Handler<T, App>,
    ) -> Self {
        self.add(Method::PUT, MethodFilter::PUT, path, needs, handler)
    }

    #[allow(
        dead_code,
        reason = "whether a route of this version takes the method or not"
    )]
    pub(crate) fn patch<T: 'static>(
        self,
        path: &'static str,
        needs: Needs,
        handler: impl Handler<T, App>,
    ) -> Self {
        self.add(Method::PATCH, MethodFilter::PATCH, path, needs, handler)
    }

    fn add<T: 'static>(
        mut self,
        method: Method,
        filter: MethodFilter,
        path: &'static str,
        needs: Needs,
        handler: impl Handler<T, App>,
    ) -> Self {
        let guarded = Guarded { needs, handler };
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

/// A handler behind the check of its caller's token.
#[derive(Clone, Debug)]
struct Guarded<H> {
    needs: Needs,
    handler: H,
}

/// The answer of a rated token is waited for, to say beside it what is left of the rate.
type Rated = Pin<Box<dyn Future<Output = Response> + Send>>;

impl<T, H> Handler<T, App> for Guarded<H>
where
    T: 'static,
    H: Handler<T, App>,
{
    type Future = Either<H::Future, Either<Ready<Response>, Rated>>;

    fn call(self, mut request: Request, app: App) -> Self::Future {
        let access = match app.tokens.admit(request.headers_mut(), self.needs) {
            Ok(access) => access,
            Err(problem) => return Either::Right(Either::Left(ready(problem.into_response()))),
        };
        if !(self.needs.is_rated() && access.has_rate()) {
            request.extensions_mut().insert(access);
            return Either::Left(self.handler.call(request, app));
        }
        Either::Right(Either::Right(self.rated(request, app, access).boxed()))
    }
}

impl<H> Guarded<H> {
    async fn rated<T>(self, mut request: Request, app: App, access: Access) -> Response
    where
        T: 'static,
        H: Handler<T, App>,
    {
        let clock = app.engine.clock();
        let counted = match self.needs {
            Needs::SubmitMany => access.has_room(clock.now()),
            _ => access.take_submits(1, clock.now()),
        };
        let mut response = match counted {
            Ok(()) => {
                request.extensions_mut().insert(access.clone());
                self.handler.call(request, app).await
            }
            Err(problem) => problem.into_response(),
        };
        access.tell_rate(response.headers_mut(), clock.now());
        response
    }
}

/// Refuses whoever asks for what is not there, under `/v1`, without a token.
pub(crate) fn check_unrouted(app: &App, call: &Call) -> Result<(), super::problem::Problem> {
    let path = call.parts.uri.path();
    if path == "/v1" || path.starts_with("/v1/") {
        app.tokens.identify(call.headers())?;
    }
    Ok(())
}
