//! Who is asked for answers: each model with its provider, its breaker, its limits and what it costs.

use super::frame::{Frame, Part, Watch};
use super::{live, show, text};
use crate::gateway::answer::Reply;
use crate::gateway::approvals::Refused;
use crate::gateway::engine::Engine;
use crate::gateway::visit::Visit;
use backstop::{Leaf, ModelSettings};
use backstop_agent::visible_line;
use backstop_call::Timestamp;
use backstop_label::ModelPlace;
use backstop_stack::layers::breaker::Phase;
use http::StatusCode;
use maud::{Markup, html};

/// A provider's model, and whether it is asked now.
pub(super) struct Target {
    provider: String,
    model: String,
    state: State,
}

/// Whether a target is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    Answers,
    Tried,
    LeftAlone { until: Timestamp },
    Keyless,
}

impl State {
    fn class(&self) -> &'static str {
        match self {
            Self::Answers => "good",
            Self::Tried => "warn",
            Self::LeftAlone { .. } | Self::Keyless => "bad",
        }
    }

    fn words(&self, now: Timestamp) -> String {
        match self {
            Self::Answers => "answers".to_owned(),
            Self::Tried => "failed, is tried again".to_owned(),
            Self::LeftAlone { until } if *until > now => {
                format!("failed, left alone for {}", text::span(until.since(now)))
            }
            Self::LeftAlone { .. } => "failed, is tried with the next call".to_owned(),
            Self::Keyless => "its key is not there".to_owned(),
        }
    }
}

/// Every target of an engine.
pub(super) fn targets(engine: &Engine, now: Timestamp) -> Vec<(Target, Timestamp)> {
    let state = |phase| match phase {
        Phase::Closed => State::Answers,
        Phase::HalfOpen { .. } => State::Tried,
        Phase::Open { until } => State::LeftAlone { until },
    };
    let asked = engine.stack.breakers().map(|(provider, model, phase)| Target {
        provider: provider.to_string(),
        model: model.to_owned(),
        state: state(phase),
    });
    let keyless = engine.keyless().iter().map(|provider| Target {
        provider: provider.to_string(),
        model: String::new(),
        state: State::Keyless,
    });
    let mut all: Vec<_> = asked.chain(keyless).map(|target| (target, now)).collect();
    all.sort_by(|(a, _), (b, _)| (&a.provider, &a.model).cmp(&(&b.provider, &b.model)));
    all
}

/// Targets, in few words.
pub(super) fn brief(targets: &[(Target, Timestamp)]) -> Markup {
    html! {
        @if targets.is_empty() { p.empty { "No provider is asked yet." } }
        ul.targets {
            @for (target, now) in targets {
                li class=(target.state.class()) {
                    span.dot aria-hidden="true" {}
                    span { (visible_line(&target.provider)) @if !target.model.is_empty() { "/" (visible_line(&target.model)) } }
                    span.dim { (target.state.words(*now)) }
                }
            }
        }
    }
}

impl Visit {
    /// Providers and limits.
    pub(super) async fn providers(&self) -> Result<Reply, Refused> {
        let Some(looker) = self.looker() else { return Ok(self.ask_to_log_in(None)) };
        let shown = self.gateway.backstop.journal().end().await?;
        let engine = self.gateway.engine();
        let now = self.gateway.clock.now();
        let settings = engine.settings();
        let body = html! {
            h1 { "Providers and limits" }
            section #breakers data-part { h2 { "Breakers" } (brief(&targets(&engine, now))) }
            section {
                h2 { "Models" }
                @if settings.models.is_empty() { p.empty { "No model is named in the config." } } @else { (models(&settings.models)) }
            }
            @if !settings.chains.is_empty() {
                section {
                    h2 { "Chains" }
                    dl.chains {
                        @for (name, models) in &settings.chains {
                            dt { (visible_line(name.as_str())) }
                            dd { ol { @for model in models { li { (visible_line(model.as_str())) } } } }
                        }
                    }
                }
            }
        };
        let watch = Some(Watch { events: live::path(None), shown });
        let frame = Frame { watch, ..Frame::of("Providers and limits", Part::Providers, Some(&looker)) };
        Ok(show(StatusCode::OK, &frame.around(&body)))
    }
}

fn models(models: &[ModelSettings]) -> Markup {
    html! {
        div.scroll tabindex="0" role="region" aria-label="Models" { table {
            thead { tr {
                th scope="col" { "Model" } th scope="col" { "Provider" } th scope="col" { "Where" }
                th.number scope="col" { "Requests a minute" } th.number scope="col" { "Tokens a minute" } th.number scope="col" { "At once" }
                th.number scope="col" { "Context" } th.number scope="col" { "Input per million" } th.number scope="col" { "Output per million" }
            } }
            tbody { @for model in models { (model_row(model)) } }
        } }
    }
}

fn model_row(model: &ModelSettings) -> Markup {
    let limits = &model.limits;
    let limit = |limit: Option<u64>| limit.map_or_else(|| "–".to_owned(), text::grouped);
    let provider = match &model.leaf {
        Leaf::Endpoint(endpoint) => &endpoint.name,
        Leaf::Model(provider, _) => provider,
    };
    html! {
        tr {
            th scope="row" { (visible_line(model.name.as_str())) }
            td { (visible_line(provider.as_str())) span.dim { (visible_line(&model.id)) } }
            td { @match model.place { ModelPlace::Local => "local", _ => "elsewhere" } }
            td.number { (limit(limits.requests.map(|rate| rate.per_minute))) }
            td.number { (limit(limits.tokens.map(|rate| rate.per_minute))) }
            td.number { (limit(limits.concurrent.map(|most| most as u64))) }
            td.number { (text::tokens(model.context_window)) }
            td.number { (model.price.input) }
            td.number { (model.price.output) }
        }
    }
}
