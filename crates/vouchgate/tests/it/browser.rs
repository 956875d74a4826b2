//! What a person's browser does with the token service's pages: it keeps cookies and sends forms.

use std::net::SocketAddr;

use testkit::op::Op;
use testkit::raw::{self, Response};

use crate::oauth::encode;

/// A browser.
pub(crate) struct Browser {
    addr: SocketAddr,
    origin: String,
    cookies: Vec<(String, String)>,
}

impl Browser {
    /// A new one, which knows the server at `addr` as `origin`.
    pub(crate) fn new(addr: SocketAddr, origin: &str) -> Self {
        Self { addr, origin: origin.to_owned(), cookies: Vec::new() }
    }

    /// Open a page of the server.
    pub(crate) async fn get(&mut self, path: &str) -> Response {
        self.send("GET", path, b"").await
    }

    /// Send the form of a page: what it hides, and what a person fills in.
    pub(crate) async fn submit(&mut self, page: &Response, filled: &[(&str, &str)]) -> Response {
        let text = page.text();
        let (_, form) = text.split_once("<form").unwrap_or_else(|| panic!("{}: {text}", page.status()));
        let (form, _) = form.split_once("</form>").unwrap();
        let action = attribute(form, "action").unwrap();
        let mut fields = Vec::new();
        for input in form.split("<input").skip(1).filter(|input| input.contains("type=\"hidden\"")) {
            fields.push((attribute(input, "name").unwrap(), attribute(input, "value").unwrap()));
        }
        let mut pairs: Vec<(&str, &str)> = fields.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        pairs.extend(filled);
        self.send("POST", &action, encode(&pairs).as_bytes()).await
    }

    /// Go to the provider the server sends people to, sign in there, and come back with the answer.
    pub(crate) async fn sign_in(&mut self, op: &Op, away: &Response) -> Response {
        let link = || attribute(&away.text(), "href").map(|url| url.replace("&amp;", "&"));
        let location = onward(away).map(str::to_owned).or_else(link);
        let back = op.visit(&location.unwrap_or_else(|| panic!("{}: {}", away.status(), away.text())));
        let path = back.strip_prefix(&self.origin).unwrap_or_else(|| panic!("sent to {back}")).to_owned();
        self.get(&path).await
    }

    async fn send(&mut self, method: &str, path: &str, body: &[u8]) -> Response {
        let cookies: Vec<String> = self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let cookies = cookies.join("; ");
        let mut headers = vec![("cookie", cookies.as_str())];
        if method == "POST" {
            headers.extend([("content-type", "application/x-www-form-urlencoded"), ("origin", self.origin.as_str())]);
        }
        let answer = raw::request(self.addr, method, path, &headers, body).await;
        for (_, set) in answer.head.headers.iter().filter(|(name, _)| name == "set-cookie") {
            let (name, value) = set.split(';').next().unwrap().split_once('=').unwrap();
            self.cookies.retain(|(other, _)| other != name);
            self.cookies.push((name.to_owned(), value.to_owned()));
        }
        answer
    }
}

/// Where a page sends the browser: at once, or by itself after it was shown.
pub(crate) fn onward(page: &Response) -> Option<&str> {
    page.header("location").or_else(|| page.header("refresh")?.strip_prefix("0; url="))
}

fn attribute(text: &str, name: &str) -> Option<String> {
    let (_, rest) = text.split_once(&format!("{name}=\""))?;
    rest.split('"').next().map(str::to_owned)
}
