//! The HTTP client of the demo: prints each request and each response.

use anyhow::{Context, ensure};
use reqwest::{Client as Http, Method, RequestBuilder};
use serde_json::Value;

use crate::cli::print;

/// A client that prints what it sends and receives.
pub struct Client {
    http: Http,
    base: String,
}

/// A response.
pub struct Reply {
    status: u16,
    body: String,
}

impl Reply {
    /// The body as JSON.
    pub fn json(&self) -> anyhow::Result<Value> {
        serde_json::from_str(&self.body).context("the answer is not JSON")
    }

    /// A string member of the body.
    pub fn text(&self, member: &str) -> anyhow::Result<String> {
        let value = self.json()?;
        Ok(value[member].as_str().with_context(|| format!("the answer has no '{member}'"))?.to_owned())
    }

    /// Requires this status, and prints what the response means.
    pub fn expect(self, status: u16, meaning: &str) -> anyhow::Result<Self> {
        ensure!(self.status == status, "expected status {status}");
        print(&format!("   {meaning}\n"))?;
        Ok(self)
    }
}

impl Client {
    /// `base` is the server's URL.
    pub fn new(base: String) -> anyhow::Result<Self> {
        let http = Http::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).build()?;
        Ok(Self { http, base })
    }

    /// The server's URL.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// Opens a page.
    pub async fn open(&self, url: &str) -> anyhow::Result<Reply> {
        self.send(self.http.get(url), &format!("GET {url}"), None).await
    }

    /// Submits a form of a page.
    pub async fn press(&self, path: &str, form: String) -> anyhow::Result<Reply> {
        let url = format!("{}{path}", self.base);
        let request = self.http.post(&url).header("content-type", "application/x-www-form-urlencoded");
        self.send(request.body(form.clone()), &format!("POST {url}"), Some(form)).await
    }

    /// Calls the API.
    pub async fn call(
        &self,
        method: Method,
        path: &str,
        token: Option<&str>,
        body: Option<Value>,
    ) -> anyhow::Result<Reply> {
        let path = format!("/_matrix/identity/v2{path}");
        let title = format!("{method} {path}");
        let mut request = self.http.request(method, format!("{}{path}", self.base));
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        if let Some(body) = &body {
            request = request.header("content-type", "application/json").body(body.to_string());
        }
        self.send(request, &title, body.map(|body| body.to_string())).await
    }

    async fn send(
        &self,
        request: RequestBuilder,
        title: &str,
        body: Option<String>,
    ) -> anyhow::Result<Reply> {
        let shown = body.map(|body| format!("   {body}\n")).unwrap_or_default();
        print(&format!("\n-> {title}\n{shown}"))?;
        let response = request.send().await.context("the server does not answer")?;
        let reply = Reply { status: response.status().as_u16(), body: response.text().await? };
        let heading = reply.body.split_once("<h1>").and_then(|(_, rest)| rest.split_once("</h1>"));
        let shown = heading.map_or(reply.body.clone(), |(heading, _)| format!("a page: \"{heading}\""));
        print(&format!("<- {} {shown}\n", reply.status))?;
        Ok(reply)
    }
}
