//! What there is without config: providers whose key is in the environment, and an Ollama on this machine. The environment
//! is an argument; nothing is written or cached.

use crate::{BaseUrl, Endpoint, EndpointError, HttpClient, KnownProvider, Timeouts, known_providers, probe};
use backstop_call::{Clock, Secret};

/// How long an Ollama may take to accept a connection, and then to list its models. Where none listens that is known at
/// once; the second is for a machine that is busy loading a model.
const OLLAMA: Timeouts = Timeouts { connect_ms: 1_000, first_byte_ms: 1_000, idle_ms: 1_000 };
const OLLAMA_PORT: u16 = 11_434;

/// A provider that was found.
#[derive(Debug, Clone)]
pub struct Discovered {
    /// Ready to be called.
    pub endpoint: Endpoint,
    /// Model ids, the one to use first.
    pub models: Vec<String>,
}

/// An environment that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the environment variable {variable} cannot be used")]
pub struct DiscoverError {
    /// The variable.
    pub variable: String,
    /// What is wrong with it.
    #[source]
    pub source: EndpointError,
}

/// Looks for what can be called without config, in the order of `providers.toml`: providers that have a default model
/// and whose key is set (their address may be overridden, as with their own SDK), then an Ollama at `OLLAMA_HOST` or its
/// usual address, if it has models. At most about three seconds, all of them for an Ollama that accepts and is silent.
pub async fn discover(
    env: impl Fn(&str) -> Option<String>,
    client: &HttpClient,
    clock: &dyn Clock,
) -> Result<Vec<Discovered>, DiscoverError> {
    let mut found = Vec::new();
    for provider in known_providers() {
        found.extend(from_environment(provider, &env)?);
    }
    let ollama = ollama(&env)?;
    if let Ok(report) = probe::ask(client, &ollama, clock, &OLLAMA).await {
        let models = chat_models_first(report.models.unwrap_or_default());
        if !models.is_empty() {
            found.push(Discovered { endpoint: ollama, models });
        }
    }
    Ok(found)
}

fn from_environment(
    provider: &KnownProvider,
    env: &impl Fn(&str) -> Option<String>,
) -> Result<Option<Discovered>, DiscoverError> {
    let set = |name: &Option<String>| env(name.as_ref()?).filter(|value| !value.trim().is_empty());
    let (Some(model), Some(key)) = (&provider.default_model, set(&provider.key_env)) else { return Ok(None) };
    let variable = || provider.base_url_env.clone().unwrap_or_default();
    let wrong = |source| DiscoverError { variable: variable(), source };
    let mut endpoint = provider.endpoint(Some(Secret::new(key))).map_err(wrong)?;
    if let Some(address) = set(&provider.base_url_env) {
        endpoint.base_url = BaseUrl::parse(&address).map_err(wrong)?;
    }
    Ok(Some(Discovered { endpoint, models: vec![model.clone()] }))
}

/// Ollama where its own variable says, or at its usual address. Elsewhere than on this machine it does not count as
/// local: what is private must not leave on the word of a variable.
fn ollama(env: &impl Fn(&str) -> Option<String>) -> Result<Endpoint, DiscoverError> {
    const VARIABLE: &str = "OLLAMA_HOST";
    let wrong = |source| DiscoverError { variable: VARIABLE.to_owned(), source };
    let known = crate::known_provider("ollama").expect("a test holds that providers.toml has it");
    let mut endpoint = known.endpoint(None).map_err(wrong)?;
    if let Some(host) = env(VARIABLE).filter(|host| !host.trim().is_empty()) {
        endpoint.base_url = ollama_url(&host).map_err(wrong)?;
        endpoint.local = endpoint.base_url.is_loopback();
    }
    Ok(endpoint)
}

/// `OLLAMA_HOST` is what the server listens on as well: the scheme and the port may be missing, and the host may be the
/// one that means all.
fn ollama_url(host: &str) -> Result<BaseUrl, EndpointError> {
    let host = host.trim().trim_end_matches('/');
    let (scheme, rest) = host.split_once("://").unwrap_or(("http", host));
    let rest = match rest.strip_prefix("0.0.0.0") {
        Some(port) => format!("127.0.0.1{port}"),
        None => rest.to_owned(),
    };
    let has_port = rest.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    let port = if has_port || scheme == "https" { String::new() } else { format!(":{OLLAMA_PORT}") };
    BaseUrl::parse(&format!("{scheme}://{rest}{port}/v1"))
}

/// Models that only embed cannot answer; they are listed behind the others.
fn chat_models_first(mut models: Vec<String>) -> Vec<String> {
    models.sort_by_key(|model| model.contains("embed"));
    models
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ollama_host_in_all_its_forms() {
        for (text, want, local) in [
            ("127.0.0.1", "http://127.0.0.1:11434/v1", true),
            ("0.0.0.0:1234", "http://127.0.0.1:1234/v1", true),
            ("localhost:1/", "http://localhost:1/v1", true),
            ("http://gpu.internal:11434", "http://gpu.internal:11434/v1", false),
            ("https://ollama.example", "https://ollama.example/v1", false),
        ] {
            let endpoint = ollama(&|name| (name == "OLLAMA_HOST").then(|| text.to_owned())).unwrap();
            assert_eq!(endpoint.base_url.to_string(), want);
            assert_eq!(endpoint.local, local, "{text}");
        }
    }

    #[test]
    fn keys_in_the_environment_are_found() {
        let env = |name: &str| match name {
            "OPENAI_API_KEY" => Some("sk-canary".to_owned()),
            "OPENAI_BASE_URL" => Some("http://proxy.internal/v1".to_owned()),
            "ANTHROPIC_API_KEY" => Some(" ".to_owned()),
            "GROQ_API_KEY" => Some("no default model".to_owned()),
            _ => None,
        };
        let found: Vec<Discovered> =
            known_providers().iter().filter_map(|known| from_environment(known, &env).unwrap()).collect();
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0].endpoint.call_uri().to_string(), "http://proxy.internal/v1/chat/completions");
        assert_eq!(found[0].models, ["gpt-6.1-terra"]);
        let bad = |name: &str| env(name).map(|value| value.replace("http://", "ftp://"));
        let openai = crate::known_provider("openai").unwrap();
        assert_eq!(
            from_environment(openai, &bad).unwrap_err(),
            DiscoverError { variable: "OPENAI_BASE_URL".into(), source: EndpointError::Scheme }
        );
    }

    #[test]
    fn embedding_models_come_last() {
        let models = ["nomic-embed-text".to_owned(), "qwen3:8b".to_owned(), "llama3".to_owned()];
        assert_eq!(chat_models_first(models.to_vec()), ["qwen3:8b", "llama3", "nomic-embed-text"]);
    }
}
