//! The page: what a person sees and clicks. Reading is by login, or by a signed link to one question; whatever changes something is
//! a form of a session that brings its token. Nothing is decided by a link, and no script is needed or allowed.

use super::desk::{By, Card, Decision};
use super::html::{self, Shown};
use super::refused::Refused;
use super::session::{SESSION, Session};
use super::{Act, Step, Visit};
use crate::gateway::answer::{self, Reply};
use backstop_call::{Code, KeyName};
use backstop_journal::event::{KeyHash, KeyRight};
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, StatusCode};
use hyper::body::Incoming;
use maud::Markup;
use serde_json::Value;
use std::collections::HashMap;

/// The way by which answers of the page come.
pub(super) const CHANNEL: &str = "page";
const COOKIE: &str = "backstop_approver";
const STYLE: &str = include_str!("style.css");
/// Nothing is loaded from elsewhere, nothing runs, nobody frames it, and forms go nowhere else.
const POLICY: &str =
    "default-src 'none'; style-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// Somebody who is logged in.
struct Person {
    name: KeyName,
    session: Session,
}

/// The fields of a form.
type Form = HashMap<String, String>;

impl Visit {
    /// Answers a request of a browser.
    pub(super) async fn page(self, step: Step, body: Incoming) -> Reply {
        let answered = match step {
            Step::Style => return style(),
            Step::Login if self.head.method == Method::POST => self.login(body).await,
            Step::Login => Ok(self.ask_to_log_in(None)),
            Step::Logout => self.logout(body).await,
            Step::Act(Act::List) => self.list().await,
            Step::Act(Act::Show) => self.show().await,
            Step::Act(Act::Preview) => self.preview(body).await,
            Step::Act(act @ (Act::Approve | Act::Deny | Act::Edit)) => self.decide(act, body).await,
        };
        answered.unwrap_or_else(|refused| page(refused.status, &html::refusal(&refused.problem)))
    }

    async fn login(&self, body: Incoming) -> Result<Reply, Refused> {
        self.must_be_own_form()?;
        let form = self.form(body).await?;
        let secret = field(&form, "key").trim();
        let now = self.gateway.clock.now();
        if let Err(refused) = self.approver(secret) {
            if refused.status == StatusCode::TOO_MANY_REQUESTS {
                return Err(refused);
            }
            // Why is not told: a key of an agent is as good as none.
            return Ok(self.ask_to_log_in(Some("This is no key that may see and answer approvals.")));
        }
        let token = self.gateway.approvals.sessions.begin(KeyHash::of(secret), now).map_err(no_randomness)?;
        let mut reply = see(back(field(&form, "next")));
        self.set_cookie(&mut reply, &token, SESSION.as_secs());
        Ok(reply)
    }

    async fn logout(&self, body: Incoming) -> Result<Reply, Refused> {
        self.person_of_form(&self.form(body).await?)?;
        if let Some(token) = self.token() {
            self.gateway.approvals.sessions.end(token);
        }
        let mut reply = see("/approvals");
        self.set_cookie(&mut reply, "", 0);
        Ok(reply)
    }

    async fn list(&self) -> Result<Reply, Refused> {
        let Some(person) = self.person() else { return Ok(self.ask_to_log_in(None)) };
        let open = self.gateway.approvals.desk.open().await?;
        Ok(page(StatusCode::OK, &html::list(&open, &person.name, &person.session.form)))
    }

    async fn show(&self) -> Result<Reply, Refused> {
        let approvals = &self.gateway.approvals;
        let person = self.person();
        let query = self.head.uri.query().unwrap_or_default();
        if person.is_none() && !approvals.link.opens(self.approval(), query, self.gateway.clock.now()) {
            return Ok(self.ask_to_log_in(None));
        }
        let card = approvals.desk.find(self.approval()).await?;
        if person.is_none() && card.is_private() {
            return Ok(self.ask_to_log_in(None));
        }
        Ok(self.card(StatusCode::OK, &card, person.as_ref(), None))
    }

    async fn preview(&self, body: Incoming) -> Result<Reply, Refused> {
        let form = self.form(body).await?;
        let person = self.person_of_form(&form)?;
        let desk = &self.gateway.approvals.desk;
        let tried = match arguments(&form) {
            Ok(args) => {
                desk.preview(self.approval(), &args).await.map(|(card, preview)| (card, args, preview))
            }
            Err(refused) => Err(refused),
        };
        match tried {
            Ok((card, args, preview)) => {
                let shown =
                    html::edited(&card, &args, &preview, &person.session.form, field(&form, "reason"));
                Ok(page(StatusCode::OK, &shown))
            }
            Err(refused) => self.again(&refused, &person, Some(field(&form, "args"))).await,
        }
    }

    async fn decide(&self, act: Act, body: Incoming) -> Result<Reply, Refused> {
        let form = self.form(body).await?;
        let person = self.person_of_form(&form)?;
        let reason = field(&form, "reason").replace("\r\n", "\n");
        let decision = match act {
            Act::Deny => Decision::Deny { reason },
            Act::Edit => {
                let preview_hash = field(&form, "preview_hash").to_owned();
                Decision::Edit { args: arguments(&form)?, preview_hash, reason }
            }
            Act::Approve | Act::List | Act::Show | Act::Preview => Decision::Approve,
        };
        let by = By { name: person.name.as_str(), channel: CHANNEL };
        match self.gateway.approvals.desk.decide(self.approval(), &decision, by).await {
            // A page that is read anew decides nothing again.
            Ok(card) => Ok(see(&format!("/approvals/{}", card.asked.approval))),
            Err(refused) => self.again(&refused, &person, None).await,
        }
    }

    /// The question as it stands now, with why something was not done.
    async fn again(&self, refused: &Refused, person: &Person, args: Option<&str>) -> Result<Reply, Refused> {
        let card = self.gateway.approvals.desk.find(self.approval()).await?;
        let problem = (refused.problem.message.as_str(), refused.problem.hint.as_str());
        Ok(self.card(refused.status, &card, Some(person), Some((problem, args))))
    }

    fn card(
        &self,
        status: StatusCode,
        card: &Card,
        person: Option<&Person>,
        failed: Option<((&str, &str), Option<&str>)>,
    ) -> Reply {
        let going = self.gateway.approvals.desk.resumer.going(&card.run);
        let shown = Shown {
            card,
            going: going.as_ref(),
            form: person.map(|person| person.session.form.as_str()),
            problem: failed.map(|(problem, _)| problem),
            args: failed.and_then(|(_, args)| args),
        };
        page(status, &html::card(&shown))
    }

    /// Who is logged in, with a key that is still good here.
    fn person(&self) -> Option<Person> {
        let now = self.gateway.clock.now();
        let session = self.gateway.approvals.sessions.find(self.token()?, now)?;
        let key = self.gateway.ring().find_hash(&session.key, now).ok()?;
        let admitted = self.gateway.admitted_with(key, self.peer, KeyRight::Approve).ok()?;
        Some(Person { name: admitted.key().name().clone(), session })
    }

    /// Who sent a form, if it is one that their session was shown.
    fn person_of_form(&self, form: &Form) -> Result<Person, Refused> {
        self.must_be_own_form()?;
        let person = self.person().ok_or_else(|| {
            let message = "you are not logged in, or no longer; nothing was decided".to_owned();
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

    async fn form(&self, body: Incoming) -> Result<Form, Refused> {
        let body = self.body(body).await?;
        Ok(url::form_urlencoded::parse(&body).into_owned().collect())
    }

    fn token(&self) -> Option<&str> {
        let cookies = self.head.headers.get_all(header::COOKIE).into_iter();
        let mut pairs = cookies.filter_map(|value| value.to_str().ok()).flat_map(|text| text.split(';'));
        pairs.find_map(|pair| pair.trim().strip_prefix(COOKIE)?.strip_prefix('='))
    }

    fn set_cookie(&self, reply: &mut Reply, token: &str, seconds: u64) {
        let secure = if self.gateway.approvals.is_https() { "; Secure" } else { "" };
        let cookie = format!(
            "{COOKIE}={token}; Path=/approvals; HttpOnly; SameSite=Strict; Max-Age={seconds}{secure}"
        );
        answer::put(reply.headers_mut(), header::SET_COOKIE, cookie);
    }

    fn ask_to_log_in(&self, problem: Option<&str>) -> Reply {
        let path = self.head.uri.path();
        let next = if self.head.method == Method::GET { back(path) } else { "/approvals" };
        page(StatusCode::UNAUTHORIZED, &html::login(next, problem))
    }
}

/// A place on the page, and nowhere else.
fn back(path: &str) -> &str {
    let id = path.strip_prefix("/approvals/").unwrap_or_default();
    let is_id = !id.is_empty() && id != "login" && id.bytes().all(|byte| byte.is_ascii_alphanumeric());
    if is_id { path } else { "/approvals" }
}

fn field<'a>(form: &'a Form, name: &str) -> &'a str {
    form.get(name).map(String::as_str).unwrap_or_default()
}

fn arguments(form: &Form) -> Result<Value, Refused> {
    let wrong = |why: String| {
        let message = format!("the arguments are {why}");
        Refused::new(StatusCode::UNPROCESSABLE_ENTITY, Code::Usage, message).with_hint("give a JSON object")
    };
    match serde_json::from_str(field(form, "args")) {
        Ok(args @ Value::Object(_)) => Ok(args),
        Ok(_) => Err(wrong("no JSON object".to_owned())),
        Err(error) => Err(wrong(format!("no JSON: {error}"))),
    }
}

fn stale() -> Refused {
    let message = "this form is none of your session's; nothing was decided".to_owned();
    Refused::new(StatusCode::FORBIDDEN, Code::FormStale, message)
}

fn no_randomness(error: getrandom::Error) -> Refused {
    let message = format!("the operating system gives no random numbers: {error}");
    Refused::new(StatusCode::INTERNAL_SERVER_ERROR, Code::Internal, message)
}

/// Sends a browser on, to read.
fn see(path: &str) -> Reply {
    let mut reply = answer::whole(StatusCode::SEE_OTHER, headers("text/html; charset=utf-8"), "");
    answer::put(reply.headers_mut(), header::LOCATION, path.to_owned());
    reply
}

fn page(status: StatusCode, markup: &Markup) -> Reply {
    answer::whole(status, headers("text/html; charset=utf-8"), markup.0.clone())
}

fn style() -> Reply {
    answer::whole(StatusCode::OK, headers("text/css; charset=utf-8"), STYLE)
}

fn headers(kind: &'static str) -> HeaderMap {
    let rows = [
        (header::CONTENT_TYPE, kind),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        // A signed link is told to nobody.
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-store"),
    ];
    rows.into_iter().map(|(name, value)| (name, HeaderValue::from_static(value))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_leads_back_to_the_page_and_nowhere_else() {
        let rows = [
            ("/approvals/01abc", "/approvals/01abc"),
            ("/approvals", "/approvals"),
            ("/approvals/login", "/approvals"),
            ("//evil.example/approvals/01abc", "/approvals"),
            ("https://evil.example", "/approvals"),
            ("/approvals/01abc/../../x", "/approvals"),
            ("/approvals/01abc\r\nset-cookie: a=b", "/approvals"),
            ("", "/approvals"),
        ];
        for (path, want) in rows {
            assert_eq!(back(path), want, "{path}");
        }
    }
}
