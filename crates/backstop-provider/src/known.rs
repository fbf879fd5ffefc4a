//! The providers that are known without config: `providers.toml`, compiled in and typed. Nothing here reads the
//! environment or opens a connection.

use crate::{Auth, BaseUrl, Endpoint, EndpointError};
use backstop_call::{Dialect, Secret};
use http::HeaderMap;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::sync::LazyLock;

/// A provider that is known without config.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct KnownProvider {
    /// How config refers to it.
    pub name: String,
    /// What it speaks.
    pub dialect: Dialect,
    /// Its address, as the vendor's own SDK takes it.
    pub base_url: String,
    /// How its key is sent.
    pub auth: Auth,
    /// The environment variable its key is usually in.
    #[serde(default)]
    pub key_env: Option<String>,
    /// The environment variable that overrides its address.
    #[serde(default)]
    pub base_url_env: Option<String>,
    /// Sent with every request.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// Its id in the price data.
    #[serde(default)]
    pub prices: Option<String>,
    /// The model that is used when nothing is configured.
    #[serde(default)]
    pub default_model: Option<String>,
    /// Whether it runs on a machine of the owner's.
    #[serde(default)]
    pub local: bool,
    /// Where it differs from its dialect.
    #[serde(default)]
    pub quirks: Vec<Quirk>,
    /// Whether it keeps message threads.
    #[serde(default)]
    pub threads: bool,
}

/// Where a provider differs from its dialect. Closed: each is a rewrite of the rendered request, in `quirk.rs`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Quirk {
    /// The output limit is called `max_tokens`.
    MaxTokens,
    /// The output limit is called `max_completion_tokens`; its newer models refuse the old name.
    MaxCompletionTokens,
    /// It refuses `stream_options`, and tells the usage of a stream without being asked.
    NoStreamOptions,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    provider: Vec<KnownProvider>,
}

static KNOWN: LazyLock<Vec<KnownProvider>> = LazyLock::new(|| {
    let file: File = toml::from_str(include_str!("providers.toml"))
        .expect("the compiled-in providers.toml is read by a test");
    file.provider
});

/// All of them, in the order they are looked for.
pub fn known_providers() -> &'static [KnownProvider] {
    &KNOWN
}

/// One of them by its name.
pub fn known_provider(name: &str) -> Option<&'static KnownProvider> {
    KNOWN.iter().find(|provider| provider.name == name)
}

impl KnownProvider {
    /// The endpoint of this provider with a key, at its usual address.
    pub fn endpoint(&self, key: Option<Secret>) -> Result<Endpoint, EndpointError> {
        let mut endpoint = Endpoint {
            name: self.name.as_str().into(),
            dialect: self.dialect,
            base_url: BaseUrl::parse(&self.base_url)?,
            auth: self.auth,
            key,
            headers: HeaderMap::new(),
            local: self.local,
            quirks: self.quirks.clone(),
            prices: self.prices.clone(),
            threads: self.threads,
        };
        for (name, value) in &self.headers {
            endpoint.insert_header(name, value)?;
        }
        Ok(endpoint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_known_provider_is_an_endpoint() {
        let mut names = BTreeSet::new();
        for provider in known_providers() {
            let endpoint = provider.endpoint(Some(Secret::new("key"))).unwrap();
            assert!(names.insert(provider.name.as_str()), "{} stands twice", provider.name);
            assert_eq!(endpoint.name.as_str(), provider.name);
            assert!(!provider.base_url.ends_with('/'), "{}", provider.name);
            assert_eq!(
                provider.local,
                provider.base_url.starts_with("http://127.0.0.1:"),
                "{}",
                provider.name
            );
            assert_eq!(provider.local, provider.prices.is_none(), "{}: priced, or local", provider.name);
            assert_eq!(provider.auth == Auth::None, provider.key_env.is_none(), "{}", provider.name);
            let limits = [Quirk::MaxTokens, Quirk::MaxCompletionTokens];
            let named = limits.iter().filter(|quirk| provider.quirks.contains(quirk)).count();
            assert_eq!(named, usize::from(provider.dialect == Dialect::Chat), "{}", provider.name);
        }
        let must = [
            "anthropic",
            "openai",
            "ollama",
            "openrouter",
            "groq",
            "mistral",
            "deepseek",
            "together",
            "fireworks",
            "xai",
            "gemini",
            "vllm",
            "llamacpp",
        ];
        assert_eq!(names, must.into_iter().collect());
    }

    #[test]
    fn an_unknown_key_is_refused() {
        let text = "[[provider]]\nname='x'\ndialect='chat'\nbase-url='http://h'\nauth='none'\nprice='x'\n";
        let error = toml::from_str::<File>(text).err().unwrap().to_string();
        assert!(error.contains("price"), "{error}");
        let text =
            "[[provider]]\nname='x'\ndialect='chat'\nbase-url='http://h'\nauth='none'\nquirks=['odd']\n";
        assert!(toml::from_str::<File>(text).is_err());
    }

    #[test]
    fn anthropic_as_its_own_sdk_calls_it() {
        let endpoint = known_provider("anthropic").unwrap().endpoint(None).unwrap();
        assert_eq!(endpoint.headers["anthropic-version"], "2023-06-01");
        assert_eq!(endpoint.call_uri().to_string(), "https://api.anthropic.com/v1/messages");
        assert_eq!(endpoint.models_path().to_string(), "/v1/models");
        let ollama = known_provider("ollama").unwrap().endpoint(None).unwrap();
        assert_eq!(ollama.call_uri().to_string(), "http://127.0.0.1:11434/v1/chat/completions");
        assert!(ollama.local && known_provider("nobody").is_none());
    }
}
