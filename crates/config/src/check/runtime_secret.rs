//! What can be wrong between runtime secrets and upstreams.

use super::World;
use crate::fault::{Code, Faults};
use crate::resource::Resource;
use crate::values::HttpUrl;
use crate::{AttestationLevel, RuntimeSecret, Upstream};

impl World<'_> {
    /// The apps and upstreams of a runtime secret exist; the upstreams are of one origin, since its value goes to one only; and none of them sets
    /// a field itself in which the value would stand.
    pub(super) fn runtime_secrets(&self, faults: &mut Faults) {
        for (path, secret) in self.runtime_secrets.iter() {
            self.runtime_secret(&path, secret, faults);
        }
    }

    fn runtime_secret(&self, path: &str, secret: &RuntimeSecret, faults: &mut Faults) {
        // Without attestation any client of ours can be meant, also one made through the admin API.
        if secret.minimum_level > AttestationLevel::None {
            for (index, app) in secret.apps.iter().enumerate() {
                self.apps.need(app.as_str(), format!("{path}.apps[{index}]"), faults);
            }
        }
        let mut first: Option<(String, &Upstream)> = None;
        for (index, name) in secret.upstreams.iter().enumerate() {
            let at = format!("{path}.upstreams[{index}]");
            self.upstreams.need(name.as_str(), at.clone(), faults);
            let Some((_, upstream)) = self.upstreams.read.iter().find(|(_, upstream)| upstream.name == *name) else {
                continue;
            };
            let injected = upstream.inject.as_ref().map(|inject| inject.header.as_str());
            let set = secret.headers.iter().position(|h| injected.is_some_and(|i| i.eq_ignore_ascii_case(h.as_str())));
            if let Some(header) = set {
                let message = format!("the {} {name} sets this field itself", Upstream::KIND);
                faults.add(format!("{path}.headers[{header}]"), Code::Conflict, message);
            }
            match &first {
                None => first = Some((at, upstream)),
                Some((before, other)) if origin(&other.url) != origin(&upstream.url) => {
                    faults
                        .add(at, Code::Conflict, "this is of another origin, and a secret is sent to one only")
                        .hint("use a secret for each")
                        .see(before.clone());
                }
                Some(_) => {}
            }
        }
    }
}

/// Scheme, host and port.
fn origin(url: &HttpUrl) -> String {
    let text = url.as_str();
    let end = text.match_indices('/').nth(2).map_or(text.len(), |(at, _)| at);
    let origin = text.get(..end).unwrap_or(text).to_ascii_lowercase();
    let usual = if origin.starts_with("https://") { ":443" } else { ":80" };
    origin.strip_suffix(usual).unwrap_or(&origin).to_owned()
}

#[cfg(test)]
mod tests {
    const TWO: &str = r#"
[[upstream]]
name = "maps"
path = "/maps/"
url = "https://Maps.example.com:443/a"
inject = { header = "X-Injected", value = { secret = "k" } }
[[upstream]]
name = "tiles"
path = "/tiles/"
url = "https://maps.example.com/b"
[[upstream]]
name = "other"
path = "/other/"
url = "https://other.example.com/"
"#;

    fn faults(upstreams: &str, header: &str) -> Vec<(String, &'static str)> {
        let text = format!(
            "{TWO}[[runtime_secret]]\nname = \"s\"\napps = [\"a\"]\nminimum_level = \"none\"\nupstreams = {upstreams}\nheaders = [\"{header}\"]\n"
        );
        crate::parse(&text).err().unwrap_or_default().into_iter().map(|f| (f.path, f.code)).collect()
    }

    #[test]
    fn a_secret_goes_to_one_origin_that_is_there() {
        assert_eq!(faults(r#"["maps", "tiles"]"#, "X-A"), []);
        let conflict = ("runtime_secret[0].upstreams[1]".to_owned(), "conflict");
        assert_eq!(faults(r#"["maps", "other"]"#, "X-A"), [conflict]);
        let unknown = ("runtime_secret[0].upstreams[0]".to_owned(), "unknown_reference");
        assert_eq!(faults(r#"["map"]"#, "X-A"), [unknown]);
        let text = "[[runtime_secret]]\nname = \"s\"\napps = [\"a\"]\ndeliver = true\n";
        assert_eq!(crate::parse(text).unwrap_err()[0].path, "runtime_secret[0].apps[0]");
        let set = ("runtime_secret[0].headers[0]".to_owned(), "conflict");
        assert_eq!(faults(r#"["maps"]"#, "x-injected"), [set]);
    }
}
