//! Who looks. Somebody with a key that approves, who may also decide; somebody with a key to look; or, as long as there is no key
//! for people at all, whoever sits at this machine, and they decide nothing. The key is asked for anew each time.

use super::frame::{Frame, Part};
use super::session::{SESSION, Session};
use super::{Page, see, show};
use crate::gateway::answer::{self, Reply};
use crate::gateway::approvals::Refused;
use crate::gateway::route::{self, Found, Route};
use crate::gateway::visit::Visit;
use crate::keys::Admitted;
use backstop_call::{Code, KeyName};
use backstop_journal::event::{KeyHash, KeyRight};
use http::header::{self, HeaderName, HeaderValue};
use http::{Method, StatusCode};
use hyper::body::Incoming;
use maud::html;
use std::collections::HashMap;

const COOKIE: &str = "backstop_session";

/// Somebody who may look.
pub(super) enum Looker {
    /// With a key.
    Person(Person),
    /// Whoever sits at this machine, where no person has a key.
    Machine,
}

/// Somebody who is signed in.
pub(super) struct Person {
    pub(super) name: KeyName,
    /// Whether they may change something.
    pub(super) decides: bool,
    pub(super) session: Session,
}

impl Looker {
    /// What a form that changes something must bring along; `None` for whoever may change nothing.
    pub(super) fn form(&self) -> Option<&str> {
        match self {
            Self::Person(person) if person.decides => Some(&person.session.form),
            Self::Person(_) | Self::Machine => None,
        }
    }
}

/// The fields of a form.
pub(super) type Form = HashMap<String, String>;

impl Visit {
    /// Who looks; `None` for whoever may not.
    pub(super) fn looker(&self) -> Option<Looker> {
        if let Some(person) = self.person() {
            return Some(Looker::Person(person));
        }
        self.is_at_home().then_some(Looker::Machine)
    }

    /// Who is signed in, with a key that is still good here.
    pub(super) fn person(&self) -> Option<Person> {
        let now = self.gateway.clock.now();
        let session = self.gateway.dashboard.sessions.find(self.token()?, now)?;
        let key = self.gateway.ring().find_hash(&session.key, now).ok()?;
        let admitted = self.admitted_to_look(key)?;
        let decides = admitted.key().scope().right == KeyRight::Approve;
        Some(Person { name: admitted.key().name().clone(), decides, session })
    }

    fn admitted_to_look(&self, key: std::sync::Arc<crate::keys::Key>) -> Option<Admitted> {
        let right = key.scope().right;
        if !right.looks() {
            return None;
        }
        self.gateway.admitted_with(key, self.peer, right).ok()
    }

    /// Who sent a form that changes something, if it is one that their session was shown.
    pub(super) fn decider(&self, form: &Form) -> Result<Person, Refused> {
        let person = self.sender(form)?;
        if person.decides {
            return Ok(person);
        }
        let message = format!("key {} may look and change nothing", person.name);
        Err(Refused::new(StatusCode::FORBIDDEN, Code::KeyRight, message)
            .with_hint("sign in with a key that was made with --approver"))
    }

    /// Who sent a form, if it is one that their session was shown.
    fn sender(&self, form: &Form) -> Result<Person, Refused> {
        self.must_be_own_form()?;
        let person = self.person().ok_or_else(|| {
            let message = "you are not signed in, or no longer; nothing was done".to_owned();
            Refused::new(StatusCode::UNAUTHORIZED, Code::FormStale, message)
        })?;
        if person.session.made(field(form, "form")) { Ok(person) } else { Err(stale()) }
    }

    /// A browser says where a form comes from; other pages may not send one in somebody's name.
    fn must_be_own_form(&self) -> Result<(), Refused> {
        const SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
        let site = self.head.headers.get(SITE).map(HeaderValue::as_bytes);
        if matches!(site, None | Some(b"same-origin" | b"none")) { Ok(()) } else { Err(stale()) }
    }

    pub(super) async fn form(&self, body: Incoming) -> Result<Form, Refused> {
        let body = self.body(body).await?;
        Ok(url::form_urlencoded::parse(&body).into_owned().collect())
    }

    pub(super) async fn log_in(&self, body: Incoming) -> Result<Reply, Refused> {
        self.must_be_own_form()?;
        let form = self.form(body).await?;
        let secret = field(&form, "key").trim();
        let now = self.gateway.clock.now();
        let found = self.tried(secret, || {
            let key = self.gateway.ring().find(secret, now).ok();
            key.and_then(|key| self.admitted_to_look(key)).ok_or_else(stale)
        });
        if let Err(refused) = found {
            if refused.status == StatusCode::TOO_MANY_REQUESTS {
                return Err(refused);
            }
            // Why is not told: a key of an agent is as good as none.
            let problem = "This is no key with which a person may look or decide.";
            return Ok(self.ask_to_log_in_for(back(field(&form, "next")), Some(problem)));
        }
        let token = self.gateway.dashboard.sessions.begin(KeyHash::of(secret), now).map_err(no_randomness)?;
        let mut reply = see(back(field(&form, "next")));
        self.set_cookie(&mut reply, &token, SESSION.as_secs());
        Ok(reply)
    }

    pub(super) async fn log_out(&self, body: Incoming) -> Result<Reply, Refused> {
        self.sender(&self.form(body).await?)?;
        if let Some(token) = self.token() {
            self.gateway.dashboard.sessions.end(token);
        }
        let mut reply = see("/login");
        self.set_cookie(&mut reply, "", 0);
        Ok(reply)
    }

    /// The door, and why somebody stands before it.
    pub(super) fn ask_to_log_in(&self, problem: Option<&str>) -> Reply {
        let asked = self.asked("next");
        let path = self.head.uri.path();
        let next = match (&asked, path) {
            (Some(next), "/login") => back(next),
            _ if self.head.method == Method::GET => back(path),
            _ => "/",
        };
        let mut reply = self.ask_to_log_in_for(next, problem);
        if path == "/login" {
            // Who came for it has got it.
            *reply.status_mut() = StatusCode::OK;
        }
        reply
    }

    fn ask_to_log_in_for(&self, next: &str, problem: Option<&str>) -> Reply {
        let has_keys = self.gateway.ring().has_lookers();
        let body = html! {
            div.door {
                h1 { "Sign in" }
                @if let Some(problem) = problem { p.problem role="alert" { (problem) } }
                form.card method="post" action="/login" {
                    input type="hidden" name="next" value=(next);
                    // Where a browser keeps the key, it is under this name.
                    input type="text" name="username" value="Backstop" autocomplete="username" hidden;
                    label for="key" { "Your key" }
                    input #key type="password" name="key" autocomplete="current-password" required autofocus;
                    div.buttons { button.primary type="submit" { "Sign in" } }
                    p.dim { "You stay signed in for half an hour." }
                }
                @if !has_keys {
                    p.dim {
                        "No person has a key yet. "
                        code { "backstop keys create NAME --approver" } " makes one that sees and answers, "
                        code { "--viewer" } " one that only sees."
                    }
                }
            }
        };
        show(StatusCode::UNAUTHORIZED, &Frame::of("Sign in", Part::None, None).around(&body))
    }

    fn token(&self) -> Option<&str> {
        let cookies = self.head.headers.get_all(header::COOKIE).into_iter();
        let mut pairs = cookies.filter_map(|value| value.to_str().ok()).flat_map(|text| text.split(';'));
        pairs.find_map(|pair| pair.trim().strip_prefix(COOKIE)?.strip_prefix('='))
    }

    fn set_cookie(&self, reply: &mut Reply, token: &str, seconds: u64) {
        let secure = if self.gateway.approvals.is_https() { "; Secure" } else { "" };
        let cookie =
            format!("{COOKIE}={token}; Path=/; HttpOnly; SameSite=Strict; Max-Age={seconds}{secure}");
        answer::put(reply.headers_mut(), header::SET_COOKIE, cookie);
    }
}

/// A page of ours that can be looked at, and nothing else.
fn back(path: &str) -> &str {
    let plain = path.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'/' | b'-' | b'_'));
    let is_page = match route::find(&Method::GET, path) {
        Found::Route(Route::Home) => true,
        Found::Route(Route::Page(page)) => {
            !matches!(page, Page::Asset | Page::Login | Page::Logout | Page::Events | Page::AuditFile)
        }
        Found::Route(_) | Found::OtherMethod(_) | Found::Nothing => false,
    };
    if plain && is_page { path } else { "/" }
}

pub(super) fn field<'a>(form: &'a Form, name: &str) -> &'a str {
    form.get(name).map(String::as_str).unwrap_or_default()
}

fn stale() -> Refused {
    let message = "this form is none of your session's; nothing was done".to_owned();
    Refused::new(StatusCode::FORBIDDEN, Code::FormStale, message)
}

fn no_randomness(error: getrandom::Error) -> Refused {
    let message = format!("the operating system gives no random numbers: {error}");
    Refused::new(StatusCode::INTERNAL_SERVER_ERROR, Code::Internal, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_leads_back_to_a_page_of_ours_and_nowhere_else() {
        let rows = [
            ("/approvals/01abc", "/approvals/01abc"),
            ("/approvals", "/approvals"),
            ("/runs/01abc/undo", "/runs/01abc/undo"),
            ("/", "/"),
            ("/login", "/"),
            ("/logout", "/"),
            ("/events", "/"),
            ("/metrics", "/"),
            ("/v1/models", "/"),
            ("//evil.example/approvals/01abc", "/"),
            ("https://evil.example", "/"),
            ("/approvals/01abc/../../x", "/"),
            ("/approvals/01abc\r\nset-cookie: a=b", "/"),
            ("/approvals/%2f%2fevil", "/"),
            ("", "/"),
        ];
        for (path, want) in rows {
            assert_eq!(back(path), want, "{path}");
        }
    }
}
