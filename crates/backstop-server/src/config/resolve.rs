//! From what was typed to what it means: names are looked up, files are read, defaults are filled in. Everything that
//! is wrong is collected, with the place of the key it hangs on. Secrets stay references here; see [`super::secret`].

use super::Surroundings;
use super::alerts::Alerts;
use super::file::{self, File};
use super::policy;
use super::problem::{Place, Problem, Problems, allowed};
use super::resolved::{Agent, Config, Logs, Model, Provider};
use super::secret::{Header, looks_like_a_key};
use super::sections::{BODIES_MIN, Retention};
use super::value::SecretRef;
use backstop_allowance::{Budget, Per, Scope};
use backstop_call::{AgentName, Code, Dialect, ModelName, Money, Price, ProviderName, Role};
use backstop_journal::event::{OnFailure, RunLimits};
use backstop_label::{Rights, RightsText};
use backstop_provider::{BaseUrl, known_provider};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The name of the simulated model that is always there.
pub const SIM: &str = "sim";

/// The wait after the first try of a task that failed, when nothing else is said.
const BACKOFF: Duration = Duration::from_secs(30);

const CONDITION_HINT: &str =
    "a pattern is like \"docs/**\", a condition like \"args.amount <= 20 && !untrusted\"";

/// What a typed config hangs on.
pub(super) struct Ground<'a> {
    /// The config file.
    pub(super) path: &'a Path,
    /// The directory that everything is kept in.
    pub(super) data_dir: PathBuf,
    /// The environment and the files.
    pub(super) world: &'a dyn Surroundings,
    /// The tools that an agent may be given.
    pub(super) tools: Vec<String>,
    /// Where each key stands.
    pub(super) places: &'a BTreeMap<String, Place>,
}

impl Config {
    /// The defaults: what there is without a config file.
    pub fn without_file(data_dir: PathBuf) -> Self {
        let ground = Ground {
            path: Path::new(""),
            data_dir,
            world: &super::ThisProcess,
            tools: Vec::new(),
            places: &BTreeMap::new(),
        };
        let typed = File::default();
        let mut resolver = Resolver::new(&typed, &ground);
        Self { file: None, ..resolver.config() }
    }
}

/// Resolves a typed config, or tells everything that is wrong with it.
pub(super) fn resolve(typed: &File, ground: &Ground<'_>) -> Result<Config, Problems> {
    let mut resolver = Resolver::new(typed, ground);
    let config = resolver.config();
    resolver.rehearse_jobs(&config);
    if resolver.problems.is_empty() { Ok(config) } else { Err(Problems(resolver.problems)) }
}

pub(super) struct Resolver<'a> {
    pub(super) typed: &'a File,
    pub(super) ground: &'a Ground<'a>,
    /// The names of the tools that the config grants, but for those of MCP servers.
    pub(super) granted: Vec<String>,
    problems: Vec<Problem>,
}

impl<'a> Resolver<'a> {
    fn new(typed: &'a File, ground: &'a Ground<'a>) -> Self {
        Self { typed, ground, granted: Vec::new(), problems: Vec::new() }
    }

    fn config(&mut self) -> Config {
        self.tools();
        let base = |path: &Path| beside(self.ground.path, path);
        let data_dir = self.ground.data_dir.clone();
        let logs = &self.typed.logs;
        let journal = self.typed.journal.path.as_deref().map_or_else(|| data_dir.join("backstop.db"), base);
        let log_dir = logs.dir.as_deref().map_or_else(|| data_dir.join("logs"), base);
        Config {
            file: Some(self.ground.path.to_owned()),
            journal,
            data_dir,
            model: self.default_model(),
            providers: self.providers(),
            models: self.models(),
            chains: self.chains(),
            budgets: self.budgets(),
            run_cost: self.typed.budgets.run.map(|dollars| dollars.0),
            agents: self.agents(),
            roles: self.roles(),
            delegation: self.typed.delegation.clone(),
            gates: self.gates(),
            tools: self.typed.tools.clone(),
            commands: self.typed.commands.clone(),
            mcp: self.typed.mcp.clone(),
            approvals: self.typed.approvals.clone(),
            alerts: self.alerts(),
            retry: self.typed.retry.clone(),
            breaker: self.typed.breaker.clone(),
            timeouts: self.typed.timeouts.clone(),
            limits: self.typed.limits.clone(),
            redact: self.typed.redact.clone(),
            serve: self.typed.serve.clone(),
            workers: self.typed.workers.clone(),
            concurrency: self.concurrency(),
            jobs: self.jobs(),
            asked: self.asked(),
            keys: self.typed.keys.clone(),
            retention: self.retention(),
            numbers: self.typed.numbers.clone(),
            otlp: self.typed.otlp.clone(),
            logs: Logs { to: logs.to, dir: log_dir, retention_days: logs.retention_days, level: logs.level },
        }
    }

    pub(super) fn problem(&mut self, key: &str, problem: Problem) {
        let place = self.place(key);
        let message = format!("`{key}`: {}", problem.message);
        self.problems.push(Problem { place, message, ..problem });
    }

    /// Where a key stands, or what it would stand in.
    fn place(&self, key: &str) -> Option<Place> {
        let mut key = key;
        loop {
            if let Some(place) = self.ground.places.get(key) {
                return Some(place.clone());
            }
            key = key.rsplit_once('.')?.0;
        }
    }

    /// The names that a model may be asked for by.
    fn model_names(&self) -> impl Iterator<Item = &str> {
        self.typed.models.keys().chain(self.typed.chains.keys()).map(String::as_str).chain([SIM])
    }

    pub(super) fn known_model(&mut self, key: &str, name: &str) -> ModelName {
        if !self.model_names().any(|known| known == name) {
            let hint = allowed("models and chains", name, self.model_names());
            self.problem(
                key,
                Problem::new(Code::UnknownModel, format!("there is no model `{name}`")).with_hint(hint),
            );
        }
        name.into()
    }

    fn default_model(&mut self) -> Option<ModelName> {
        let name = self.typed.model.as_deref()?;
        Some(self.known_model("model", name))
    }

    /// What stands for a model or chain. The longer pattern is the more exact one.
    fn asked(&mut self) -> Vec<(String, ModelName)> {
        let typed = self.typed;
        let mut asked: Vec<_> = typed
            .serve
            .models
            .iter()
            .map(|(pattern, name)| {
                let key = format!("serve.models.{pattern}");
                (pattern.clone(), self.known_model(&key, name))
            })
            .collect();
        asked.sort_by_key(|(pattern, _)| std::cmp::Reverse(pattern.len()));
        asked
    }

    fn providers(&mut self) -> BTreeMap<ProviderName, Provider> {
        let typed = self.typed;
        typed
            .providers
            .iter()
            .map(|(name, provider)| (name.as_str().into(), self.provider(name, provider)))
            .collect()
    }

    fn provider(&mut self, name: &str, typed: &file::Provider) -> Provider {
        let key = format!("providers.{name}");
        let known = known_provider(name);
        let dialect = typed.dialect.or(known.map(|known| known.dialect));
        if dialect.is_none() {
            let hint = "add `dialect = \"messages\"` (Anthropic Messages), `dialect = \"chat\"` (OpenAI Chat Completions) or `dialect = \"responses\"` (OpenAI Responses)";
            self.problem(&key, Problem::new(Code::ConfigValue, "`dialect` is missing").with_hint(hint));
        }
        let base_url = typed.base_url.clone().or_else(|| known.map(|known| known.base_url.clone()));
        match &base_url {
            None => {
                let hint = "add `base-url = \"https://…\"`";
                self.problem(&key, Problem::new(Code::ConfigValue, "`base-url` is missing").with_hint(hint));
            }
            Some(url) => self.check_url(&format!("{key}.base-url"), url),
        }
        let same_address = typed.base_url.is_none();
        Provider {
            dialect: dialect.unwrap_or(Dialect::Chat),
            base_url: base_url.unwrap_or_default(),
            // A key that belongs to the known address is not sent to another one unasked.
            key: typed
                .key
                .clone()
                .or_else(|| Some(SecretRef::Env(known.filter(|_| same_address)?.key_env.clone()?))),
            local: typed.local.or(known.map(|known| known.local)).unwrap_or(false),
            headers: self.headers(&key, typed),
            limits: typed.limits,
            threads: typed.threads.or(known.map(|known| known.threads)).unwrap_or(false),
        }
    }

    fn check_url(&mut self, key: &str, url: &str) {
        if let Err(error) = BaseUrl::parse(url) {
            let hint = "write it like \"https://api.example.com\", without user, query or fragment";
            self.problem(key, Problem::new(Code::ConfigValue, error.to_string()).with_hint(hint));
        }
    }

    fn headers(&mut self, key: &str, typed: &file::Provider) -> Vec<(String, Header)> {
        let mut headers = Vec::new();
        for (name, value) in &typed.headers {
            let key = format!("{key}.headers.{name}");
            let token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
            if name.is_empty() || !name.chars().all(token) {
                let message = format!("`{name}` is no name of a header");
                self.problem(&key, Problem::new(Code::ConfigValue, message));
            }
            match value.parse::<SecretRef>() {
                Ok(reference) => headers.push((name.clone(), Header::Secret(reference))),
                Err(bad) if looks_like_a_key(name, value) => {
                    let hint =
                        "put it into the environment or a file, and write \"env:NAME\" or \"file:PATH\"";
                    self.problem(&key, Problem::new(Code::ConfigValue, bad.0).with_hint(hint));
                }
                Err(_) => headers.push((name.clone(), Header::Plain(value.clone()))),
            }
        }
        headers
    }

    fn models(&mut self) -> BTreeMap<ModelName, Model> {
        let typed = self.typed;
        typed.models.iter().map(|(name, model)| (name.as_str().into(), self.model(name, model))).collect()
    }

    fn model(&mut self, name: &str, typed: &file::Model) -> Model {
        let key = format!("models.{name}");
        if name == SIM {
            let message = "this name belongs to the simulated model that is always there";
            self.problem(&key, Problem::new(Code::ConfigValue, message).with_hint("choose another name"));
        }
        let provider = self.typed.providers.get(&typed.provider);
        if provider.is_none() {
            let hint = allowed("providers", &typed.provider, self.typed.providers.keys().map(String::as_str));
            let message = format!("there is no provider `{}`", typed.provider);
            self.problem(
                &format!("{key}.provider"),
                Problem::new(Code::ConfigValue, message).with_hint(hint),
            );
        }
        let known = known_provider(&typed.provider);
        let at_home = provider.and_then(|provider| provider.local).or(known.map(|known| known.local));
        Model {
            provider: typed.provider.as_str().into(),
            id: typed.id.clone(),
            price: typed.price.map(price),
            context_window: typed.context_window,
            max_output: typed.max_output,
            local: typed.local.or(at_home).unwrap_or(false),
        }
    }

    fn chains(&mut self) -> BTreeMap<ModelName, Vec<ModelName>> {
        let typed = self.typed;
        typed.chains.iter().map(|(name, chain)| (name.as_str().into(), self.chain(name, chain))).collect()
    }

    fn chain(&mut self, name: &str, typed: &file::Chain) -> Vec<ModelName> {
        let key = format!("chains.{name}");
        if self.typed.models.contains_key(name) || name == SIM {
            let hint = "give the chain or the model another name";
            self.problem(
                &key,
                Problem::new(Code::ConfigValue, "a model has this name already").with_hint(hint),
            );
        }
        if typed.models.is_empty() {
            let hint = "name at least one model: `models = [\"…\"]`";
            self.problem(
                &format!("{key}.models"),
                Problem::new(Code::ConfigValue, "the list is empty").with_hint(hint),
            );
        }
        for (n, model) in typed.models.iter().enumerate() {
            let key = format!("{key}.models");
            if !self.typed.models.contains_key(model) {
                let hint = allowed("models", model, self.typed.models.keys().map(String::as_str));
                let message = format!("there is no model `{model}`");
                self.problem(&key, Problem::new(Code::UnknownModel, message).with_hint(hint));
            } else if typed.models[..n].contains(model) {
                let message = format!("`{model}` stands twice");
                self.problem(
                    &key,
                    Problem::new(Code::ConfigValue, message).with_hint("name each model once"),
                );
            }
        }
        typed.models.iter().map(|model| model.as_str().into()).collect()
    }

    fn budgets(&mut self) -> Vec<Budget> {
        let typed = &self.typed.budgets;
        for name in typed.providers.keys().filter(|name| !self.typed.providers.contains_key(*name)) {
            let hint = allowed("providers", name, self.typed.providers.keys().map(String::as_str));
            let message = format!("there is no provider `{name}`");
            self.problem(
                &format!("budgets.providers.{name}"),
                Problem::new(Code::ConfigValue, message).with_hint(hint),
            );
        }
        let daily = |scope, limit: Money| Budget { scope, per: Per::Day, limit };
        let mut budgets: Vec<_> = typed.day.iter().map(|dollars| daily(Scope::Total, dollars.0)).collect();
        budgets.extend(
            typed.roles.iter().map(|(name, limit)| daily(Scope::Role(name.as_str().into()), limit.0)),
        );
        budgets.extend(
            typed.providers.iter().map(|(name, limit)| daily(Scope::Provider(name.as_str().into()), limit.0)),
        );
        budgets
    }

    fn roles(&mut self) -> BTreeMap<String, RightsText> {
        let typed = self.typed;
        let mut roles = BTreeMap::new();
        for (name, role) in &typed.roles {
            for (tool, rights) in &policy::rights(role).0 {
                let one = RightsText([(tool.clone(), rights.clone())].into());
                if let Err(error) = Rights::parse(&one) {
                    let problem = Problem::new(Code::ConfigValue, error.to_string());
                    self.problem(&format!("roles.{name}.tools.{tool}"), problem.with_hint(CONDITION_HINT));
                }
            }
            roles.insert(name.clone(), policy::rights(role));
        }
        roles
    }

    fn alerts(&mut self) -> Alerts {
        let typed = &self.typed.alerts;
        let wrong = typed.resolved_rules().err().unwrap_or_else(|| typed.wrong_names());
        for (key, why) in wrong {
            let problem = Problem::new(Code::ConfigValue, why).with_hint("see docs/alerts.md");
            self.problem(&key, problem);
        }
        typed.clone()
    }

    fn retention(&mut self) -> Retention {
        let typed = self.typed.retention;
        if typed.bodies.is_some_and(|bodies| bodies.0 < BODIES_MIN) {
            let problem = Problem::new(Code::ConfigValue, "it is looked once an hour for what is older");
            self.problem("retention.bodies", problem.with_hint("keep them for \"1h\" or longer"));
        }
        typed
    }

    fn gates(&mut self) -> Vec<policy::Gate> {
        let typed = self.typed;
        for (number, gate) in typed.gates.iter().enumerate() {
            if let Err(error) = policy::gate(gate) {
                let problem = Problem::new(Code::ConfigValue, error.to_string());
                self.problem(&format!("gates.{number}"), problem.with_hint(CONDITION_HINT));
            }
        }
        typed.gates.clone()
    }

    fn agents(&mut self) -> BTreeMap<AgentName, Agent> {
        let typed = self.typed;
        typed.agents.iter().map(|(name, agent)| (name.as_str().into(), self.agent(name, agent))).collect()
    }

    fn agent(&mut self, name: &str, typed: &file::Agent) -> Agent {
        let key = format!("agents.{name}");
        let model = typed.model.as_deref().map(|model| self.known_model(&format!("{key}.model"), model));
        for tool in typed.tools.iter().flatten() {
            self.known_tool(&format!("{key}.tools"), tool);
        }
        Agent {
            description: typed.description.clone(),
            prompt: self.prompt(&format!("{key}.prompt"), typed),
            model,
            tools: typed.tools.clone(),
            role: typed.role.as_deref().unwrap_or(name).into(),
            max_tokens: typed.max_tokens,
            result_schema: self.result_schema(&format!("{key}.result-schema"), typed),
            limits: self.limits(&typed.limits),
            on_failure: match typed.on_failure {
                file::OnFailureWord::Keep => OnFailure::Keep,
                file::OnFailureWord::Rollback => OnFailure::Rollback,
            },
            workspace: typed.workspace.as_deref().map(|path| beside(self.ground.path, path)),
            tries: typed.tries.unwrap_or(1),
            backoff: typed.backoff.map_or(BACKOFF, |span| span.0),
        }
    }

    fn concurrency(&self) -> BTreeMap<Role, u32> {
        let roles = self.typed.roles.iter();
        roles.filter_map(|(name, role)| Some((name.as_str().into(), role.concurrency?))).collect()
    }

    fn limits(&self, typed: &file::AgentLimits) -> RunLimits {
        let standard = RunLimits::default();
        RunLimits {
            time: typed.time.map_or(standard.time, |span| span.0),
            turns: typed.turns.unwrap_or(standard.turns),
            tokens: typed.tokens.unwrap_or(standard.tokens),
            cost: typed.cost.or(self.typed.budgets.run).map(|dollars| dollars.0),
        }
    }

    fn prompt(&mut self, key: &str, typed: &file::Agent) -> Option<String> {
        let path = beside(self.ground.path, typed.prompt.as_deref()?);
        let text = match self.ground.world.read(&path) {
            Ok(bytes) => String::from_utf8(bytes).map_err(|_| "is no UTF-8 text".to_owned()),
            Err(error) => Err(format!("cannot be read: {error}")),
        };
        match text {
            Ok(text) if !text.trim().is_empty() => return Some(text),
            Ok(_) => {
                let message = format!("{} is empty", path.display());
                self.problem(
                    key,
                    Problem::new(Code::PromptMissing, message).with_hint("write the agent's instructions"),
                );
            }
            Err(why) => {
                self.problem(key, Problem::new(Code::PromptMissing, format!("{} {why}", path.display())));
            }
        }
        None
    }

    fn result_schema(&mut self, key: &str, typed: &file::Agent) -> Option<Value> {
        let path = beside(self.ground.path, typed.result_schema.as_deref()?);
        let hint = "the file must hold a JSON Schema, like {\"type\": \"object\", \"properties\": …}";
        let schema = match self.ground.world.read(&path) {
            Err(error) => Err(format!("cannot be read: {error}")),
            Ok(bytes) => match serde_json::from_slice::<Value>(&bytes) {
                Err(error) => Err(format!("is no JSON: {error}")),
                Ok(value) if !value.is_object() => Err("is no JSON Schema: not an object".to_owned()),
                Ok(value) => match jsonschema::meta::validate(&value) {
                    Err(error) => Err(format!("is no JSON Schema: {error}")),
                    Ok(()) => Ok(value),
                },
            },
        };
        schema
            .map_err(|why| {
                let message = format!("{} {why}", path.display());
                self.problem(key, Problem::new(Code::ConfigValue, message).with_hint(hint));
            })
            .ok()
    }
}

/// A path that stands in a file: relative ones are beside that file.
pub(super) fn beside(file: &Path, path: &Path) -> PathBuf {
    file.parent().unwrap_or(Path::new("")).join(path)
}

fn price(typed: file::Price) -> Price {
    Price {
        input: typed.input.0,
        output: typed.output.0,
        cache_read: typed.cache_read.unwrap_or(typed.input).0,
        cache_write: typed.cache_write.unwrap_or(typed.input).0,
        request: typed.request.unwrap_or_default().0,
    }
}
