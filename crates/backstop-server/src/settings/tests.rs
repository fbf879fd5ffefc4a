//! What an engine is given, from what a config says.

use super::*;
use crate::config::load;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::io;
use std::path::Path;

struct World(BTreeMap<&'static str, &'static str>, String);

impl Surroundings for World {
    fn var(&self, name: &str) -> Option<String> {
        self.0.get(name).map(|&value| value.to_owned())
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let known = path == Path::new("backstop.toml");
        known.then(|| self.1.clone().into_bytes()).ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
    }
}

const CONFIG: &str = r#"
model = "main"
[providers.anthropic]
limits = { requests-per-minute = 50, concurrent = 2 }
[providers.proxy]
dialect = "chat"
base-url = "http://127.0.0.1:9/v1"
key = "env:PROXY_KEY"
headers = { x-token = "env:PROXY_TOKEN", x-team = "docs" }
[providers.ollama]
[models.big]
provider = "anthropic"
id = "claude-sonnet-5"
max-output = 1000
[models.small]
provider = "proxy"
id = "m"
price = { input = 1, output = 2 }
[models.home]
provider = "ollama"
id = "llama"
[chains.main]
models = ["big", "home"]
[chains.spare]
models = ["small", "home"]
[retry]
attempts = 5
cap = "7s"
[timeouts]
connect = "1s"
tool = "9s"
"#;

fn filled(vars: &[(&'static str, &'static str)], wanted: &str) -> Result<Settings, Problems> {
    let world = World(vars.iter().copied().collect(), CONFIG.to_owned());
    let config = load(Path::new("backstop.toml"), Some(PathBuf::from("data")), &world)?;
    let mut settings = base(&config, &world);
    Plan { config: &config, world: &world, now: Timestamp::from_secs(1_795_348_800) }
        .models(&mut settings, &wanted.into())?;
    Ok(settings)
}

const KEYS: [(&str, &str); 3] =
    [("ANTHROPIC_API_KEY", "key-a"), ("PROXY_KEY", "key-p"), ("PROXY_TOKEN", "token-p")];

#[test]
fn settings_say_what_the_config_says() {
    let settings = filled(&KEYS, "main").unwrap();
    assert_eq!(settings.store, Place::File("data/backstop.db".into()));
    assert_eq!(settings.stack.attempt.attempts_max, 5);
    assert_eq!(settings.stack.attempt.backoff_ms_max, 7_000);
    assert_eq!((settings.timeouts.connect_ms, settings.agent.tool_timeout.as_secs()), (1_000, 9));
    let model = |name: &str| settings.models.iter().find(|model| model.name.as_str() == name).unwrap();
    let big = model("big");
    assert_eq!((big.max_output, big.limits.concurrent), (1_000, Some(2)));
    assert_eq!(big.limits.requests, Some(Rate::per_minute(50)));
    assert!(big.price.output > big.price.input, "the price list knows it");
    assert_eq!(model("small").price.output.nanos(), 2_000_000_000);
    assert_eq!((model("home").place, model("home").price), (ModelPlace::Local, backstop_call::Price::FREE));
    assert_eq!(settings.chains.len(), 2);
    let hidden: BTreeSet<_> = settings.secrets.iter().map(Secret::expose).collect();
    assert_eq!(hidden, BTreeSet::from(["key-a", "key-p", "token-p"]), "all there are, used or not");
    let Leaf::Endpoint(endpoint) = &model("small").leaf else { panic!("an endpoint") };
    assert_eq!(endpoint.key.as_ref().unwrap().expose(), "key-p");
    assert_eq!(endpoint.headers["x-token"], "token-p");
    assert_eq!(endpoint.call_uri().to_string(), "http://127.0.0.1:9/v1/chat/completions");
}

#[test]
fn whoever_speaks_messages_is_sent_its_version() {
    let text = "[providers.proxy]\ndialect = \"messages\"\nbase-url = \"http://127.0.0.1:9\"";
    let world = World(BTreeMap::new(), text.to_owned());
    let config = load(Path::new("backstop.toml"), None, &world).unwrap();
    let plan = Plan { config: &config, world: &world, now: Timestamp::EPOCH };
    let endpoint = plan.endpoint(&"proxy".into()).unwrap();
    assert!(endpoint.headers.contains_key("anthropic-version"), "{endpoint:?}");
    assert_eq!((endpoint.auth, endpoint.prices), (Auth::None, None));
}

#[test]
fn only_the_keys_of_what_is_asked_must_be_there() {
    let settings = filled(&[("ANTHROPIC_API_KEY", "key-a")], "main").unwrap();
    let names: Vec<_> = settings.models.iter().map(|model| model.name.as_str()).collect();
    assert_eq!(names, ["big", "home"]);
    assert_eq!(settings.chains.len(), 1, "a chain with a missing model is left out as a whole");
    let problems = filled(&[], "main").err().unwrap();
    assert_eq!(problems.0[0].code, Code::SecretMissing);
    assert_eq!(
        problems.to_string(),
        "provider anthropic: the environment variable ANTHROPIC_API_KEY is not set"
    );
    assert!(filled(&[], "home").is_ok());
}

#[test]
fn any_model_of_a_provider_can_be_named_by_its_id() {
    let settings = filled(&KEYS, "proxy/other").unwrap();
    let other = settings.models.iter().find(|model| model.name.as_str() == "proxy/other").unwrap();
    assert_eq!(other.id, "other");
    let problem = filled(&KEYS, "mian").err().unwrap().0.remove(0);
    assert_eq!(problem.code, Code::UnknownModel);
    assert_eq!(problem.hint, "did you mean `main`? models and chains: big, home, main, sim, small, spare");
}

#[test]
fn what_was_found_makes_a_chain() {
    let config = Config::without_file("data".into());
    let world = World(BTreeMap::new(), String::new());
    let endpoint = |name: &str| known_provider(name).unwrap().endpoint(Some(Secret::new("key"))).unwrap();
    let found = [
        Discovered { endpoint: endpoint("anthropic"), models: vec!["claude-sonnet-5".into()] },
        Discovered { endpoint: endpoint("ollama"), models: vec!["llama".into(), "qwen".into()] },
    ];
    let plan = Plan { config: &config, world: &world, now: Timestamp::EPOCH };
    let mut settings = base(&config, &world);
    plan.found(&mut settings, &found, &FOUND.into()).unwrap();
    let chain: Vec<_> = settings.chains[0].1.iter().map(ModelName::as_str).collect();
    assert_eq!(chain, ["anthropic/claude-sonnet-5", "ollama/llama"]);
    let mut settings = base(&config, &world);
    plan.found(&mut settings, &found, &"anthropic/claude-opus-5".into()).unwrap();
    assert!(settings.models.iter().any(|model| model.id == "claude-opus-5"));
    let mut settings = base(&config, &world);
    assert!(plan.found(&mut settings, &found, &"openai/x".into()).is_err());
}
