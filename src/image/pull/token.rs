//! Tokens: what a registry takes in place of credentials, from the server that it names.

use super::challenge::Challenge;
use super::credentials::Credentials;
use super::failure::{Again, Failure};
use super::http::{Answer, Http, Request, host};
use super::reference::is_loopback;
use super::retry::after;
use super::sources::Steady;
use serde::Deserialize;
use std::fmt::Write as _;
use std::io::Read as _;
use ureq::http::{Uri, header};

/// Longest answer with a token.
const ANSWER_MAX: u64 = 1 << 20;
/// By what name we ask.
const CLIENT: &str = "stockade";

/// The value of the header `Authorization` that answers one of the challenges; none if there is nothing to answer with.
pub(super) fn answer(
    http: &Http,
    registry: &str,
    challenges: &[Challenge],
    scope: &str,
    credentials: Option<&Credentials>,
) -> Result<Option<String>, Failure> {
    if let Some(Credentials::RegistryToken(token)) = credentials {
        return Ok(Some(format!("Bearer {token}")));
    }
    for challenge in challenges {
        if let Challenge::Bearer {
            realm,
            service,
            scope: asked,
        } = challenge
        {
            let realm = check_realm(http, registry, realm)?;
            let scope = asked.as_deref().unwrap_or(scope);
            let token = fetch(http, &realm, service.as_deref(), scope, credentials)?;
            return Ok(Some(format!("Bearer {token}")));
        }
    }
    let basic = challenges.contains(&Challenge::Basic);
    Ok(credentials.and_then(Credentials::basic).filter(|_| basic))
}

/// The realm as a URL that credentials may be sent to.
fn check_realm(http: &Http, registry: &str, realm: &str) -> Result<Uri, Failure> {
    let refuse = |why: &str| {
        Failure::new(
            "auth",
            format!("`{registry}` names a server of tokens {why}"),
            Again::No,
        )
    };
    let uri: Uri = realm.parse().map_err(|_| refuse("that is no URL"))?;
    let authority = uri.authority().ok_or_else(|| refuse("that is no URL"))?;
    if authority.as_str().contains('@') {
        return Err(refuse("with a name in its URL"));
    }
    let here = is_loopback(registry) && is_loopback(authority.as_str());
    match uri.scheme_str() {
        Some("https") => Ok(uri),
        Some("http") if here || !http.tls_verify => Ok(uri),
        _ => Err(refuse("that is not reached by HTTPS")),
    }
}

fn fetch(
    http: &Http,
    realm: &Uri,
    service: Option<&str>,
    scope: &str,
    credentials: Option<&Credentials>,
) -> Result<String, Failure> {
    let answer = match credentials {
        Some(Credentials::IdentityToken(token)) => {
            let form = [
                ("grant_type", "refresh_token"),
                ("refresh_token", token),
                ("service", service.unwrap_or_default()),
                ("scope", scope),
                ("client_id", CLIENT),
            ];
            let request = Request {
                form: Some(&form),
                ..Request::default()
            };
            http.send(realm, request)?
        }
        _ => {
            let query: Vec<(&str, &str)> = service
                .map(|s| ("service", s))
                .into_iter()
                .chain([("scope", scope)])
                .collect();
            let authorization = credentials.and_then(Credentials::basic);
            let request = Request {
                authorization: authorization.as_deref(),
                ..Request::default()
            };
            let uri = with_query(realm, &query).ok_or_else(|| {
                Failure::new(
                    "auth",
                    format!("the URL of tokens at `{}` is too long", host(realm)),
                    Again::No,
                )
            })?;
            http.send(&uri, request)?
        }
    };
    read(http, answer, credentials.is_some())
}

fn read(http: &Http, answer: Answer, with_credentials: bool) -> Result<String, Failure> {
    let host = answer.host;
    let status = answer.response.status().as_u16();
    if status != 200 {
        let asked = answer.response.headers().get(header::RETRY_AFTER);
        let asked = asked.and_then(|text| after(text.to_str().ok()?));
        let (why, again) = match status {
            400 | 401 | 403 if with_credentials => ("refuses the credentials".into(), Again::No),
            400 | 401 | 403 => ("gives no token without credentials".into(), Again::No),
            408 | 429 | 500..=599 => (format!("answers {status}"), Again::Later(asked)),
            _ => (format!("answers {status}"), Again::No),
        };
        return Err(Failure::new(
            "auth",
            format!("the server of tokens `{host}` {why}"),
            again,
        ));
    }
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Token {
        token: String,
        access_token: String,
    }
    let mut json = Vec::new();
    let patience = http.tcp.patience;
    Steady::new(answer.response.into_body().into_reader(), patience)
        .take(ANSWER_MAX)
        .read_to_end(&mut json)
        .map_err(|error| Failure::of_io(&host, patience, error))?;
    // An error of the reader's could quote what it read.
    let found: Token = serde_json::from_slice(&json).unwrap_or_default();
    let token = match found.token.is_empty() {
        true => found.access_token,
        false => found.token,
    };
    match !token.is_empty() && token.bytes().all(|b| b.is_ascii_graphic()) {
        true => Ok(token),
        false => {
            let why = format!("the server of tokens `{host}` answers without a token");
            Err(Failure::new("auth", why, Again::No))
        }
    }
}

fn with_query(uri: &Uri, query: &[(&str, &str)]) -> Option<Uri> {
    let mut text = uri.to_string();
    for (name, value) in query {
        text.push(if text.contains('?') { '&' } else { '?' });
        text.push_str(name);
        text.push('=');
        for b in value.bytes() {
            match b {
                b'A'..=b'Z'
                | b'a'..=b'z'
                | b'0'..=b'9'
                | b'-'
                | b'.'
                | b'_'
                | b'~'
                | b':'
                | b'/'
                | b',' => {
                    text.push(b.into());
                }
                _ => write!(text, "%{b:02X}").expect("a string takes all"),
            }
        }
    }
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries() {
        let of = |uri: &str| {
            let query = [("service", "a b&c=d"), ("scope", "repository:x/y:pull")];
            with_query(&uri.parse().unwrap(), &query)
                .unwrap()
                .to_string()
        };
        let query = "service=a%20b%26c%3Dd&scope=repository:x/y:pull";
        assert_eq!(
            of("https://a.example/token"),
            format!("https://a.example/token?{query}")
        );
        assert_eq!(
            of("https://a.example/t?x=y"),
            format!("https://a.example/t?x=y&{query}")
        );
    }
}
