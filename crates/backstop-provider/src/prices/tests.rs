//! Golden prices. The data is pinned by Cargo.lock, so a change of it shows here and is looked at by a person.

use super::*;

/// 2026-11-22, noon.
const NOW: Timestamp = Timestamp::from_secs(1_795_348_800);

fn ask(provider: Option<&str>, model: &str) -> ModelFacts {
    model_facts(&ModelQuery { provider, model, local: false, configured: None }, NOW)
}

fn dollars(price: Price) -> [String; 5] {
    [price.input, price.output, price.cache_read, price.cache_write, price.request]
        .map(|money| money.to_string())
}

#[test]
fn well_known_models() {
    // provider, model, dollars per million: input, output, cache read, cache write (an hour); context, output
    let rows = [
        ("anthropic", "claude-opus-4-5", ["$5.00", "$25.00", "$0.50", "$10.00", "$0.00"], 200_000, 64_000),
        // Its tier beyond 200,000 tokens counts.
        ("anthropic", "claude-sonnet-4-5", ["$6.00", "$22.50", "$0.60", "$12.00", "$0.00"], 200_000, 64_000),
        ("anthropic", "claude-sonnet-5-5", ["$2.00", "$10.00", "$0.10", "$4.00", "$0.00"], 1_000_000, 64_000),
        // Its tier beyond 100,000 tokens counts.
        ("anthropic", "claude-haiku-5-5", ["$0.50", "$2.50", "$0.05", "$1.00", "$0.00"], 1_000_000, 64_000),
        // Without a price for writing to the cache that is input like any other.
        ("openai", "gpt-5", ["$1.25", "$10.00", "$0.125", "$1.25", "$0.00"], 400_000, 128_000),
        ("google", "gemini-2.5-pro", ["$2.50", "$15.00", "$0.25", "$2.50", "$0.00"], 128_000, 65_536),
        // Its price by day counts, whatever the hour of asking.
        ("deepseek", "deepseek-chat", ["$0.27", "$1.10", "$0.07", "$0.27", "$0.00"], 64_000, 8_192),
    ];
    for (provider, model, want, context, output) in rows {
        let facts = ask(Some(provider), model);
        assert_eq!(facts.source, PriceSource::Known, "{model}");
        assert_eq!(dollars(facts.price), want, "{model}");
        assert_eq!((facts.context_tokens, facts.output_tokens_max), (context, output), "{model}");
    }
}

#[test]
fn every_default_model_has_a_price_and_a_size() {
    for provider in known_providers() {
        let Some(model) = &provider.default_model else { continue };
        let facts = ask(provider.prices.as_deref(), model);
        assert_eq!(facts.source, PriceSource::Known, "{model}");
        assert!(facts.context_tokens >= 200_000, "{model}: {}", facts.context_tokens);
    }
}

#[test]
fn an_unknown_model_costs_as_much_as_the_dearest_of_its_provider() {
    let facts = ask(Some("anthropic"), "claude-of-next-year");
    assert_eq!(facts.source, PriceSource::ProviderCeiling);
    for model in ["claude-opus-4-1", "claude-sonnet-4-5", "claude-haiku-5-5"] {
        let known = ask(Some("anthropic"), model);
        assert_eq!(known.source, PriceSource::Known);
        assert_eq!(facts.price.dearest(known.price), facts.price, "{model}");
    }
    assert_eq!((facts.context_tokens, facts.output_tokens_max), (CONTEXT_TOKENS_DEFAULT, 64_000));
}

#[test]
fn an_unknown_provider_costs_as_much_as_the_dearest_of_all() {
    let facts = ask(None, "somebodys-model");
    assert_eq!(facts.source, PriceSource::ProviderCeiling);
    assert_eq!(facts.output_tokens_max, OUTPUT_TOKENS_DEFAULT);
    for provider in ["anthropic", "openai", "google"] {
        let one = ask(Some(provider), "no-such-model");
        assert_eq!(facts.price.dearest(one.price), facts.price, "{provider}");
        assert!(one.price.output > Money::from_dollars(10), "{provider}");
    }
}

#[test]
fn config_and_locality_come_first() {
    let mine = Price { input: Money::from_nanos(7), ..Price::FREE };
    let query = ModelQuery { provider: Some("openai"), model: "gpt-5", local: false, configured: Some(mine) };
    let facts = model_facts(&query, NOW);
    assert_eq!((facts.price, facts.source, facts.context_tokens), (mine, PriceSource::Config, 400_000));
    let local = ModelQuery { provider: None, model: "llama3", local: true, configured: None };
    let facts = model_facts(&local, NOW);
    assert_eq!((facts.price, facts.source), (Price::FREE, PriceSource::Free));
    assert_eq!(facts.context_tokens, LOCAL_CONTEXT_TOKENS_DEFAULT);
}
