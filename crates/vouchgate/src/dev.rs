//! `vouchgate dev`: everything by default, from whatever providers this machine has keys for.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use config::ProviderKind;

use crate::simulate;

/// What a `dev` instance is made of.
#[derive(Debug, Clone)]
pub struct Setup<'a> {
    /// Where state is kept.
    pub data_dir: &'a Path,
    /// The public listener.
    pub listen: SocketAddr,
    /// The admin listener.
    pub admin_listen: SocketAddr,
    /// The providers found.
    pub providers: Vec<ProviderKind>,
    /// The AWS region, where one is set: Bedrock is there.
    pub region: Option<String>,
    /// Whether there is an app for simulated devices.
    pub app: bool,
}

/// The name of the client `dev` mints tokens for.
pub const CLIENT: &str = "dev";

/// The prompt service every `dev` instance publishes.
pub const SERVICE_PATH: &str = "/v1/analyzing";

/// How long a local Ollama has to answer.
const PROBE: Duration = Duration::from_millis(300);

/// Where AWS's own tools look for the region, first choice first.
pub const REGION: [&str; 2] = ["AWS_REGION", "AWS_DEFAULT_REGION"];

/// The providers whose usual key `has_key` knows, and a local Ollama if one answers. Bedrock needs a region besides.
pub async fn find_providers(has_key: impl Fn(&str) -> bool) -> Vec<ProviderKind> {
    let mut found: Vec<ProviderKind> = ProviderKind::ALL
        .iter()
        .copied()
        .filter(|kind| kind.is_built() && kind.env_key().is_some_and(&has_key))
        .filter(|kind| *kind != ProviderKind::Bedrock || REGION.into_iter().any(&has_key))
        .collect();
    let ollama = SocketAddr::from(([127, 0, 0, 1], 11434));
    if matches!(tokio::time::timeout(PROBE, tokio::net::TcpStream::connect(ollama)).await, Ok(Ok(_))) {
        found.push(ProviderKind::Ollama);
    }
    found
}

/// The configuration of a `dev` instance, as the file a user would write: it is saved for them to grow from.
pub fn configuration(setup: &Setup<'_>) -> String {
    let mut text = String::new();
    let data_dir = toml::Value::String(setup.data_dir.display().to_string());
    let master_key = toml::Value::String(setup.data_dir.join("master.key").display().to_string());
    // Writing to a String cannot fail.
    let _ = write!(
        text,
        "# Written anew by each `vouchgate dev`. Copy it to start a configuration of your own:\n\
         #     vouchgate serve --config vouchgate.toml\n\n\
         [server]\n\
         listen = \"{}\"\n\
         admin_listen = \"{}\"\n\
         data_dir = {data_dir}\n\n\
         [vault]\n\
         key = {{ file = {master_key} }}\n\n\
         # Who may have tokens: `vouchgate token mint --client {CLIENT}`\n\
         [[client]]\n\
         name = \"{CLIENT}\"\n\
         scopes = [\"chat\"]\n\
         token_ttl = \"1h\"\n",
        setup.listen, setup.admin_listen,
    );
    for kind in &setup.providers {
        let _ = write!(text, "\n[[provider]]\nname = \"{kind}\"\nkind = \"{kind}\"\n");
        if let Some(variable) = kind.env_key() {
            let _ = writeln!(text, "api_key = {{ env = \"{variable}\" }}");
        }
        if let (ProviderKind::Bedrock, Some(region)) = (kind, &setup.region) {
            let _ = writeln!(text, "region = {}", toml::Value::String(region.clone()));
        }
    }
    let _ = write!(
        text,
        "\n# What they may do: every model of every provider above, and the built-in vouchgate/echo.\n\
         [[policy]]\n\
         name = \"{CLIENT}\"\n\
         who = {{ issuer = \"vouchgate\", client = \"{CLIENT}\", scope = [\"chat\"] }}\n\
         may = {{ models = [\"*\"], services = [\"*\"], {}max_output_tokens = 8192, tools = true }}\n\
         rate = [{{ requests = 600, per = \"subject\", window = \"1m\" }}, {{ concurrent = 32, per = \"subject\" }}]\n\n\
         # A prompt published as a REST endpoint.\n\
         [[service]]\n\
         name = \"analyzing\"\n\
         path = \"{SERVICE_PATH}\"\n\
         model = \"{}\"\n\
         prompt = \"Answer the question.\\n\\n{{{{input}}}}\"\n",
        passthrough(&setup.providers),
        service_model(&setup.providers),
    );
    if setup.app {
        text.push_str(&simulate::configuration(setup.data_dir));
    }
    text
}

/// `providers = [..], ` for the policy, which takes no empty list.
fn passthrough(providers: &[ProviderKind]) -> String {
    if providers.is_empty() {
        return String::new();
    }
    let names: Vec<_> = providers.iter().map(|kind| format!("\"{kind}\"")).collect();
    format!("providers = [{}], ", names.join(", "))
}

/// The model the sample service uses: an inexpensive one of the first provider that has a well-known one.
fn service_model(providers: &[ProviderKind]) -> &'static str {
    let known = |kind: &ProviderKind| match kind {
        ProviderKind::OpenAi => Some("openai/gpt-5-mini"),
        ProviderKind::Anthropic => Some("anthropic/claude-haiku-4-5"),
        ProviderKind::Gemini => Some("gemini/gemini-2.5-flash"),
        ProviderKind::Mistral => Some("mistral/mistral-small-latest"),
        _ => None,
    };
    providers.iter().find_map(known).unwrap_or(config::ECHO_MODEL)
}

/// What `dev` prints once it runs: the URL, a request that works when pasted, and where to go on.
pub fn banner(public: &str, admin: &str, token: &str, setup: &Setup<'_>) -> String {
    let providers = if setup.providers.is_empty() {
        "none (set OPENAI_API_KEY, ANTHROPIC_API_KEY, GEMINI_API_KEY, MISTRAL_API_KEY, ... and start again)".to_owned()
    } else {
        setup.providers.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    };
    let config = setup.data_dir.join("dev.toml");
    format!(
        "Vouchgate is running at {public}   (admin: {admin})\n\
         Providers: {providers}\n\
         Built in:  vouchgate/echo, which answers with what it was asked\n\
         State and configuration: {}\n\n\
         Paste this:\n\n\
         curl -N {public}/v1/chat/completions -H 'Content-Type: application/json' \\\n  \
         -H 'Authorization: Bearer {token}' \\\n  \
         --data '{{\"model\": \"vouchgate/echo\", \"stream\": true, \"messages\": [{{\"role\": \"user\", \"content\": \"Hello from the other side\"}}]}}'\n\n\
         That token works for one hour. The next one: vouchgate token mint --client {CLIENT} --data-dir {}\n{}",
        config.display(),
        setup.data_dir.display(),
        if setup.app { simulate::invitation(public, setup.data_dir) } else { String::new() },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn setup(providers: Vec<ProviderKind>) -> Setup<'static> {
        Setup {
            data_dir: Path::new("data \"quoted\""),
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            admin_listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            providers,
            region: Some("eu-central-1".to_owned()),
            app: false,
        }
    }

    #[test]
    fn the_configuration_of_dev_is_a_valid_one_whatever_was_found() {
        let built: Vec<_> =
            ProviderKind::ALL.iter().copied().filter(|kind| kind.default_base_url().is_some()).collect();
        for providers in [vec![], vec![ProviderKind::Mistral], vec![ProviderKind::Bedrock], built] {
            let text = configuration(&setup(providers.clone()));
            let config = config::parse(&text).unwrap_or_else(|faults| panic!("{faults:?}\n{text}"));
            assert_eq!(config.providers.len(), providers.len());
            assert_eq!(config.server.data_dir, Path::new("data \"quoted\""));
            assert!(config.apps.is_empty());
            let text = configuration(&Setup { app: true, ..setup(providers) });
            let config = config::parse(&text).unwrap_or_else(|faults| panic!("{faults:?}\n{text}"));
            assert_eq!(config.apps[0].name.as_str(), simulate::APP);
        }
    }

    #[tokio::test]
    async fn a_provider_is_found_by_its_usual_key() {
        let found = find_providers(|name| name == "MISTRAL_API_KEY").await;
        assert!(found.contains(&ProviderKind::Mistral) && !found.contains(&ProviderKind::OpenAi));
        let found = find_providers(|name| name == "AWS_BEARER_TOKEN_BEDROCK").await;
        assert!(!found.contains(&ProviderKind::Bedrock), "nobody said where");
        let found = find_providers(|name| matches!(name, "AWS_BEARER_TOKEN_BEDROCK" | "AWS_DEFAULT_REGION")).await;
        assert!(found.contains(&ProviderKind::Bedrock));
    }
}
