//! What a model costs and how much it takes: the price data of the `genai-prices` crate, turned once per model into whole
//! nano-dollars. Pure but for the data's first decoding; a price is an input to a reservation and is never guessed low.
//!
//! Where the data has several prices for one thing, the dearest counts, because a reservation must hold for all of
//! them: of tiers by the size of the prompt, of times of day, of the cache's times to live. Prices that only a field of
//! the request chooses (a service tier, batches) are not looked at.

use crate::known_providers;
use backstop_call::{Money, Price, Timestamp};
use genai_prices::{Calculator, PriceCalculation, PriceRequest, ProviderInfo, Usage, UsageKey};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

/// The context window of a model whose size nobody tells, in tokens.
pub const CONTEXT_TOKENS_DEFAULT: u64 = 128_000;
/// The same for a local model: what the common servers load a model with.
pub const LOCAL_CONTEXT_TOKENS_DEFAULT: u64 = 32_768;
/// The output limit of a model whose limit nobody tells, in tokens. It must be sent, or it limits nothing.
pub const OUTPUT_TOKENS_DEFAULT: u64 = 8_192;

/// Where a price comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PriceSource {
    /// Config says so.
    Config,
    /// The price data has this model.
    Known,
    /// The model is unknown: for each kind of token the dearest that its provider has, or, of a provider that is unknown
    /// too, the dearest of all known providers.
    ProviderCeiling,
    /// It runs on a machine of the owner's.
    Free,
}

/// What is known of a model before it is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelFacts {
    /// What it costs.
    pub price: Price,
    /// Where that comes from.
    pub source: PriceSource,
    /// How many tokens it takes in all.
    pub context_tokens: u64,
    /// How many tokens it writes at most.
    pub output_tokens_max: u64,
}

/// Which model is asked about.
#[derive(Debug, Clone, Copy)]
pub struct ModelQuery<'a> {
    /// The provider's id in the price data ([`crate::Endpoint::prices`]); `None` is a provider without prices there.
    pub provider: Option<&'a str>,
    /// The provider's id of the model.
    pub model: &'a str,
    /// Whether it runs on a machine of the owner's.
    pub local: bool,
    /// The price that config gives.
    pub configured: Option<Price>,
}

/// What is known of a model. `now` chooses among prices that changed on a date.
pub fn model_facts(query: &ModelQuery<'_>, now: Timestamp) -> ModelFacts {
    let known = query.provider.and_then(|provider| known_model(provider, query.model, now));
    let (price, source) = match (query.configured, query.local, &known) {
        (Some(price), _, _) => (price, PriceSource::Config),
        (None, true, _) => (Price::FREE, PriceSource::Free),
        (None, false, Some(known)) => (known.price, PriceSource::Known),
        (None, false, None) => (ceiling(query.provider, now), PriceSource::ProviderCeiling),
    };
    let default = if query.local { LOCAL_CONTEXT_TOKENS_DEFAULT } else { CONTEXT_TOKENS_DEFAULT };
    let context_tokens = known.and_then(|known| known.context_tokens).unwrap_or(default);
    let output_tokens_max = output_tokens_max(query.model).min(context_tokens);
    ModelFacts { price, source, context_tokens, output_tokens_max }
}

/// The most that the well-known families write, by the beginning of the model's id after a vendor's prefix. The price
/// data has no such field; the figures are those of the vendors' model pages. The first row that fits counts.
const OUTPUT_TOKENS_MAX: &[(&str, u64)] = &[
    ("claude-opus-4-5", 64_000),
    ("claude-opus-4-6", 128_000),
    ("claude-opus-4-7", 128_000),
    ("claude-opus-4-8", 128_000),
    ("claude-opus-4", 32_000),
    ("claude-sonnet-4", 64_000),
    ("claude-haiku-4", 64_000),
    ("claude-3-7-sonnet", 64_000),
    ("claude-3-5", 8_192),
    ("claude-3", 4_096),
    ("claude-", 64_000),
    ("gpt-4.1", 32_768),
    ("gpt-4o", 16_384),
    ("gpt-4", 4_096),
    ("gpt-3.5", 4_096),
    ("gpt-5-chat", 16_384),
    ("gpt-", 128_000),
    ("o1", 100_000),
    ("o3", 100_000),
    ("o4", 100_000),
    ("gemini-1.5", 8_192),
    ("gemini-2.0", 8_192),
    ("gemini-", 65_536),
];

fn output_tokens_max(model: &str) -> u64 {
    let id = model.rsplit('/').next().unwrap_or(model).to_ascii_lowercase();
    OUTPUT_TOKENS_MAX
        .iter()
        .find(|(prefix, _)| id.starts_with(prefix))
        .map_or(OUTPUT_TOKENS_DEFAULT, |(_, tokens)| *tokens)
}

struct KnownModel {
    price: Price,
    context_tokens: Option<u64>,
}

fn known_model(provider: &str, model: &str, now: Timestamp) -> Option<KnownModel> {
    let data = Calculator::bundled();
    let probe = Probe { provider, model, day: now.day() };
    let matched = probe.at(data, 0, &Usage::new()).ok()?;
    let context_tokens = data
        .providers()
        .find(|candidate| candidate.id() == matched.provider_id)
        .and_then(|provider| provider.models().find(|model| model.id() == matched.model_id))
        .and_then(genai_prices::ModelInfo::context_window)
        .filter(|tokens| *tokens > 0);
    Some(KnownModel { price: probe.dearest(data)?, context_tokens })
}

/// The dearest of a provider, found once per provider and day: some have hundreds of models.
fn ceiling(provider: Option<&str>, now: Timestamp) -> Price {
    static FOUND: Mutex<BTreeMap<(Option<String>, u64), Price>> = Mutex::new(BTreeMap::new());
    let key = (provider.map(str::to_owned), now.day());
    // What the lock holds is whole at every moment, so a panic elsewhere leaves it usable.
    if let Some(price) = FOUND.lock().unwrap_or_else(PoisonError::into_inner).get(&key) {
        return *price;
    }
    let data = Calculator::bundled();
    let one = provider.and_then(|id| data.find_provider(Some(id), None).ok().flatten());
    let price = match one {
        Some(provider) => dearest_of(data, provider, now),
        None => known_providers()
            .iter()
            .filter_map(|known| data.find_provider(Some(known.prices.as_deref()?), None).ok().flatten())
            .map(|provider| dearest_of(data, provider, now))
            .fold(Price::FREE, Price::dearest),
    };
    FOUND.lock().unwrap_or_else(PoisonError::into_inner).insert(key, price);
    price
}

fn dearest_of(data: &Calculator, provider: ProviderInfo<'_>, now: Timestamp) -> Price {
    let prices = provider.models().filter_map(|model| {
        Probe { provider: provider.id(), model: model.id(), day: now.day() }.dearest(data)
    });
    prices.fold(Price::FREE, Price::dearest)
}

/// Asks the data for the price of one model by pricing made-up usages: it gives prices in no other way.
struct Probe<'a> {
    provider: &'a str,
    model: &'a str,
    /// Days since 1970: which of the dated prices counts.
    day: u64,
}

impl Probe<'_> {
    /// The dearest over all sizes of prompt and times of day. `None` when the data cannot price tokens of this model.
    fn dearest(&self, data: &Calculator) -> Option<Price> {
        // Between the beginnings of the data's tiers, the largest first; two hours lie in each of its spans of a day.
        const PROMPTS: [f64; 5] = [2_000_000.0, 300_000.0, 150_000.0, 50_000.0, 1_000.0];
        let mut seen: Vec<(Money, Money)> = Vec::new();
        let mut found: Option<Price> = None;
        for hour in (0..24).step_by(2) {
            for (place, prompt) in PROMPTS.into_iter().enumerate() {
                let both = self.with(data, hour, prompt, &["output_tokens"])?;
                let rates = (per_million(both.input_price, prompt), per_million(both.output_price, prompt));
                match (seen.contains(&rates), place) {
                    // The same table of prices as at another hour.
                    (true, 0) => break,
                    (true, _) => continue,
                    (false, _) => seen.push(rates),
                }
                let price = self.price(data, hour, prompt, rates);
                found = Some(found.map_or(price, |other| other.dearest(price)));
            }
        }
        found
    }

    /// The prices of all kinds for a prompt of this size, when those of input and output are known.
    fn price(&self, data: &Calculator, hour: u64, prompt: f64, (input, output): (Money, Money)) -> Price {
        let priced = |kinds: &[&str]| self.with(data, hour, prompt, kinds);
        let thought = priced(&["output_tokens", "output_reasoning_tokens"]);
        let input_kind = |kinds: &[&str]| {
            priced(kinds).map_or(input, |calculation| per_million(calculation.input_price, prompt))
        };
        // Writing to the cache for an hour costs more than for five minutes; a usage does not tell the two apart.
        let write = input_kind(&["cache_write_tokens"]);
        let long_write = input_kind(&["cache_write_tokens", "cache_write_1h_tokens"]);
        let request = self.at(data, hour, &Usage::new()).map_or(0.0, |calculation| calculation.total_price);
        Price {
            input,
            output: thought.map_or(output, |price| output.max(per_million(price.output_price, prompt))),
            cache_read: input_kind(&["cache_read_tokens"]),
            cache_write: write.max(long_write),
            request: per_million(request, 1_000_000.0),
        }
    }

    /// Prices a call whose prompt is wholly of these kinds; `None` when the data cannot.
    fn with(&self, data: &Calculator, hour: u64, prompt: f64, kinds: &[&str]) -> Option<PriceCalculation> {
        let mut usage = Usage::from([(UsageKey::INPUT_TOKENS, prompt)]);
        for kind in kinds {
            usage.insert(*kind, prompt);
        }
        self.at(data, hour, &usage).ok()
    }

    fn at(&self, data: &Calculator, hour: u64, usage: &Usage) -> genai_prices::Result<PriceCalculation> {
        let moment = SystemTime::UNIX_EPOCH + Duration::from_secs(self.day * 86_400 + hour * 3_600 + 1);
        let request =
            PriceRequest::new(self.model, usage).with_provider_id(self.provider).with_timestamp(moment);
        data.calculate(&request)
    }
}

/// Dollars for `count` tokens, as nano-dollars for a million. The data is in dollars per million with few decimals, so
/// that rounding to the next whole nano-dollar takes away the float's error and nothing else.
#[expect(clippy::cast_possible_truncation, reason = "checked against the range first")]
fn per_million(dollars: f64, count: f64) -> Money {
    let nanos = (dollars / count * 1e15).round();
    if nanos.is_finite() && nanos < 9.0e18 { Money::from_nanos(nanos.max(0.0) as i64) } else { Money::MAX }
}

#[cfg(test)]
mod tests;
