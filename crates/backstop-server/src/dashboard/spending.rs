//! What may be spent, and what is: the budgets of the config and those of keys, as the ledger holds them, and what model calls cost
//! by model, role, key and day.

use super::figures::{Gauge, gauges, shares};
use super::frame::{Frame, Part, Watch};
use super::numbers::{self, SPENDING_HEADS, Span};
use super::overview::spans;
use super::{live, show};
use crate::gateway::answer::Reply;
use crate::gateway::approvals::Refused;
use crate::gateway::visit::Visit;
use backstop_allowance::{Account, Balance, Per, Scope};
use backstop_call::{Code, Money};
use backstop_journal::projections::numbers::By;
use http::StatusCode;
use maud::html;

/// The most keys whose budgets are shown.
const KEYS_MAX: usize = 200;

impl Visit {
    /// Spending.
    pub(super) async fn spending(&self) -> Result<Reply, Refused> {
        let Some(looker) = self.looker() else { return Ok(self.ask_to_log_in(None)) };
        let shown = self.gateway.backstop.journal().end().await?;
        let (budgets, keys) = (self.budgets().await?, self.key_budgets().await?);
        let (now, span) = (self.gateway.clock.now(), Span::of(self.asked("span").as_deref()));
        let mut tables = Vec::new();
        for (what, by) in [("model", By::Model), ("role", By::Role), ("key", By::Key), ("day", By::Day)] {
            tables.push((what, numbers::spending(&self.gateway.numbers, span, by, now).await?));
        }
        let body = html! {
            h1 { "Spending" }
            section #budgets data-part { h2 { "Budgets" } (gauges(&budgets)) }
            section #keys data-part {
                h2 { "Keys" }
                @if keys.is_empty() { p.empty { "No key has a budget." } } @else { (gauges(&keys)) }
            }
            section #spent data-part {
                h2 { "Spent" }
                (spans("/spending", span))
                div.tables { @for (what, table) in &tables { section { h3 { "By " (what) } (shares(what, &SPENDING_HEADS, table)) } } }
            }
        };
        let watch = Some(Watch { events: live::path(None), shown });
        let frame = Frame { watch, ..Frame::of("Spending", Part::Spending, Some(&looker)) };
        Ok(show(StatusCode::OK, &frame.around(&body)))
    }

    /// The budgets of the config, as they stand.
    pub(super) async fn budgets(&self) -> Result<Vec<Gauge>, Refused> {
        let now = self.gateway.clock.now();
        let mut gauges = Vec::new();
        for budget in self.gateway.engine().budgets() {
            let scope = budget.scope.clone();
            let account = match budget.per {
                Per::Day => Account::today(scope, now),
                Per::Ever => Account::whole(scope),
            };
            gauges.push(self.gauge(account, budget.limit).await?);
        }
        Ok(gauges)
    }

    async fn key_budgets(&self) -> Result<Vec<Gauge>, Refused> {
        let now = self.gateway.clock.now();
        let keys = self.gateway.keys().await;
        let mut gauges = Vec::new();
        for key in keys.iter().filter(|key| key.revoked.is_none()).take(KEYS_MAX) {
            let scope = || Scope::Key(key.key.clone());
            let day = key.scope.budget.day.map(|limit| (Account::today(scope(), now), limit));
            let whole = key.scope.budget.whole.map(|limit| (Account::whole(scope()), limit));
            for (account, limit) in day.into_iter().chain(whole) {
                gauges.push(self.gauge(account, limit).await?);
            }
        }
        Ok(gauges)
    }

    async fn gauge(&self, account: Account, limit: Money) -> Result<Gauge, Refused> {
        let name = name_of(&account);
        let balance = self.gateway.backstop.ledger().balance(account).await;
        let balance: Balance = balance.map_err(|_| {
            let message = "the books cannot be read".to_owned();
            Refused::new(StatusCode::SERVICE_UNAVAILABLE, Code::DatabaseUnusable, message)
        })?;
        Ok(Gauge { name, spent: balance.settled + balance.suspense, held: balance.reserved, limit })
    }
}

/// An account in words.
fn name_of(account: &Account) -> String {
    let today = matches!(account.window, backstop_allowance::Window::Day(_));
    let whose = match &account.scope {
        Scope::Total => "Everything".to_owned(),
        Scope::Run(run) => format!("Run {run}"),
        Scope::Role(role) => format!("Role {role}"),
        Scope::Provider(provider) => format!("Provider {provider}"),
        Scope::Key(key) => format!("Key {key}"),
    };
    if today { format!("{whose}, today") } else { whose }
}
