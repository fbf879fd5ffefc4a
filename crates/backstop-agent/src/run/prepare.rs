//! Makes a claimed run ready to be worked on: its rights, its tools as its model hears of them, the directory it works in, the
//! plan it carries out. Acts on nothing.

use super::child::Kin;
use super::drive::{Drive, Ground};
use super::{Agent, Claimed, RunError};
use crate::toolbox::Registered;
use crate::tools::{READ_RESULT, delegate_spec, finish_spec, submit_spec};
use crate::{DELEGATE, Rules, SUBMIT};
use backstop_call::{RunId, Shared, ToolSpec};
use backstop_journal::JournalError;
use backstop_journal::event::RunCreated;
use backstop_label::{Declaration, Facts, Labels, Rights};
use serde_json::json;
use std::sync::Arc;

impl Agent {
    pub(super) async fn prepare(&self, run: &RunId, claimed: Claimed) -> Result<Drive<'_>, RunError> {
        let created = claimed.state.created.as_ref();
        let kin = created.map(|created| Kin::of(&created.origin)).unwrap_or_default();
        self.prepare_as(run, claimed, kin).await
    }

    pub(super) async fn prepare_as(
        &self,
        run: &RunId,
        claimed: Claimed,
        kin: Kin,
    ) -> Result<Drive<'_>, RunError> {
        let Some(created) = &claimed.state.created else {
            return Err(JournalError::NotFound(run.clone()).into());
        };
        let over = claimed.state.status.is_final();
        if claimed.state.erased && !over {
            return Err(RunError::Erased(run.clone()));
        }
        if !over {
            self.check(created)?;
        }
        let above = kin.bounds.iter().filter(|text| !created.bounds.contains(text));
        let bounds = created.bounds.iter().chain(above).map(Rights::parse).collect::<Result<Vec<_>, _>>()?;
        let window = self.config.windows.get(&created.model).copied();
        let rules = Rules {
            tools: self.specs(created, &bounds),
            context_window_tokens: window,
            outages_max: self.config.outages_max,
        };
        let opened = if created.dry_run && !over {
            self.open_copy(kin.top.as_ref().unwrap_or(run), created).await
        } else {
            self.open_workspace(created)
        };
        // Where a rule looks at a path, no link may lead elsewhere.
        let named = self.policy.looks_at_arguments(created.role.as_str(), &bounds);
        let opened = opened.map(|opened| opened.map(|it| if named { it.without_links() } else { it }));
        let workspace = match opened {
            Ok(workspace) => workspace.map(Arc::new),
            // A run that is over can be looked at without it.
            Err(_) if over => None,
            Err(error) => return Err(error),
        };
        let planned = match &created.applies {
            Some(planned) => Some(self.planned(planned).await?),
            None => None,
        };
        Ok(Drive::new(self, run.clone(), claimed, Ground { rules, bounds, workspace, planned, kin }))
    }

    /// The tools as the model of a run is told of them. What its role lacks, it never hears of.
    fn specs(&self, created: &RunCreated, bounds: &[Rights]) -> Shared<ToolSpec> {
        let role = created.role.as_str();
        let has =
            |name: &&String| self.policy.has(role, name) && bounds.iter().all(|rights| rights.has(name));
        let told = |tool: &Registered| match tool.spec.name.as_str() {
            DELEGATE => delegate_spec(self.named(DELEGATE, created, bounds, tool.tool.declaration())),
            SUBMIT => submit_spec(self.named(SUBMIT, created, bounds, tool.tool.declaration())),
            _ => tool.spec.clone(),
        };
        let known: Vec<_> =
            created.tools.iter().filter(has).filter_map(|name| self.tools.find(name)).collect();
        let is_listed = known.iter().any(|tool| tool.spec.name == READ_RESULT);
        let has_more = known.iter().any(|tool| tool.tool.has_more()) && has(&&READ_RESULT.to_owned());
        let reads_on = self.tools.find(READ_RESULT).filter(|_| has_more && !is_listed);
        let all = known.into_iter().chain(reads_on);
        all.map(told).chain([finish_spec(created.result_schema.as_ref())]).collect()
    }

    /// The agents that the run may name with a tool: what is known of them is told to nobody else.
    fn named(
        &self,
        tool: &str,
        created: &RunCreated,
        bounds: &[Rights],
        declared: &Declaration,
    ) -> impl Iterator<Item = (&str, &str)> {
        let may_name = |(name, _): &(&str, &str)| {
            let facts = Facts {
                tool,
                args: &json!({ "agent": name, "task": "" }),
                class: declared.class,
                effect: declared.effect,
                reversible: true,
                labels: &Labels::default(),
                role: created.role.as_str(),
                agent: created.agent.as_str(),
                cost_nanos: 0,
                call_cost_nanos: None,
            };
            self.policy.permit(&facts, bounds).is_ok()
        };
        self.config.delegation.told().filter(may_name)
    }
}
