//! What agents ask, and answers to it, on pages. Reading is by signing in, or by a signed link to one question; whatever changes
//! something is a form of a session that brings its token. Nothing is decided by a link.

use super::door::{Form, Looker, Person, field};
use super::question::{self, Shown};
use super::{CHANNEL, see, show};
use crate::gateway::answer::Reply;
use crate::gateway::approvals::{Act, By, Card, Decision, Refused};
use crate::gateway::visit::Visit;
use backstop_call::Code;
use http::StatusCode;
use hyper::body::Incoming;
use serde_json::Value;

/// The most open questions on a page.
const SHOWN_MAX: usize = 100;

impl Visit {
    /// Answers a request about questions.
    pub(super) async fn question(&self, act: Act, body: Incoming) -> Result<Reply, Refused> {
        match act {
            Act::List => self.inbox().await,
            Act::Show => self.show_question().await,
            Act::Preview => self.preview(body).await,
            Act::Approve | Act::Deny | Act::Edit => self.decide(act, body).await,
        }
    }

    async fn inbox(&self) -> Result<Reply, Refused> {
        let Some(looker) = self.looker() else { return Ok(self.ask_to_log_in(None)) };
        // Before the look: what comes between both is told again.
        let shown = self.gateway.backstop.journal().end().await?;
        let open = self.gateway.approvals.desk.open().await?;
        let now = self.gateway.clock.now();
        Ok(show(StatusCode::OK, &question::list(&open, SHOWN_MAX, &looker, (shown, now))))
    }

    async fn show_question(&self) -> Result<Reply, Refused> {
        let approvals = &self.gateway.approvals;
        let looker = self.looker();
        let query = self.head.uri.query().unwrap_or_default();
        if looker.is_none() && !approvals.link.opens(self.name(), query, self.gateway.clock.now()) {
            return Ok(self.ask_to_log_in(None));
        }
        let card = approvals.desk.find(self.name()).await?;
        if looker.is_none() && card.is_private() {
            return Ok(self.ask_to_log_in(None));
        }
        self.card(StatusCode::OK, &card, looker.as_ref(), None).await
    }

    async fn preview(&self, body: Incoming) -> Result<Reply, Refused> {
        let form = self.form(body).await?;
        let person = self.decider(&form)?;
        let desk = &self.gateway.approvals.desk;
        let tried = match arguments(&form) {
            Ok(args) => desk.preview(self.name(), &args).await.map(|(card, preview)| (card, args, preview)),
            Err(refused) => Err(refused),
        };
        match tried {
            Ok((card, args, preview)) => {
                let looker = Looker::Person(person);
                let shown = question::edited(&card, &args, &preview, &looker, field(&form, "reason"));
                Ok(show(StatusCode::OK, &shown))
            }
            Err(refused) => self.again(&refused, person, Some(field(&form, "args"))).await,
        }
    }

    async fn decide(&self, act: Act, body: Incoming) -> Result<Reply, Refused> {
        let form = self.form(body).await?;
        let person = self.decider(&form)?;
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
        match self.gateway.approvals.desk.decide(self.name(), &decision, by).await {
            // A page that is read anew decides nothing again.
            Ok(card) => Ok(see(&format!("/approvals/{}", card.asked.approval))),
            Err(refused) => self.again(&refused, person, None).await,
        }
    }

    /// The question as it stands now, with why something was not done.
    async fn again(&self, refused: &Refused, person: Person, args: Option<&str>) -> Result<Reply, Refused> {
        let card = self.gateway.approvals.desk.find(self.name()).await?;
        let problem = (refused.problem.message.as_str(), refused.problem.hint.as_str());
        let looker = Looker::Person(person);
        self.card(refused.status, &card, Some(&looker), Some((problem, args))).await
    }

    async fn card(
        &self,
        status: StatusCode,
        card: &Card,
        looker: Option<&Looker>,
        failed: Option<((&str, &str), Option<&str>)>,
    ) -> Result<Reply, Refused> {
        let going = self.gateway.approvals.desk.going(&card.run).await?;
        let shown = Shown {
            card,
            going,
            looker,
            problem: failed.map(|(problem, _)| problem),
            args: failed.and_then(|(_, args)| args),
        };
        Ok(show(status, &question::card(&shown)))
    }
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
