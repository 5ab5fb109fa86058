//! What a node answers.

use std::borrow::Cow;

use hyper::StatusCode;
use serde::{Deserialize, Deserializer};
use serde_json::error::Category;

use super::error::{CallError, fit_for_log};

/// The node is not ready yet.
const IN_WARMUP: i64 = -28;

/// An answer, still unread.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) url: String,
    pub(super) method: &'static str,
    pub(super) status: StatusCode,
    pub(super) body: Vec<u8>,
}

/// Either version of JSON-RPC: in the first, both members are there and one is null.
#[derive(Deserialize)]
#[serde(bound(deserialize = "T: Deserialize<'de>"))]
struct Envelope<'a, T> {
    #[serde(default, deserialize_with = "present")]
    result: Option<Option<T>>,
    #[serde(borrow, default)]
    error: Option<RpcError<'a>>,
}

#[derive(Deserialize)]
struct RpcError<'a> {
    #[serde(default)]
    code: i64,
    #[serde(borrow, default)]
    message: Cow<'a, str>,
}

/// Tells a null from nothing.
fn present<'de, D, T>(deserializer: D) -> Result<Option<Option<T>>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    Option::deserialize(deserializer).map(Some)
}

impl Answer {
    /// The result; none if it is null.
    pub(super) fn result<'a, T: Deserialize<'a>>(&'a self) -> Result<Option<T>, CallError> {
        // whatever the status is: Core says 404 of a method and 500 of a refusal
        let read = serde_json::from_slice::<Envelope<T>>(&self.body);
        if let Ok(Envelope { error: Some(error), .. }) = read {
            let words = fit_for_log(&error.message);
            return Err(match error.code {
                IN_WARMUP => CallError::Warmup { words },
                code => CallError::Refused { method: self.method, code, words },
            });
        }
        if !self.status.is_success() {
            return Err(self.refusal());
        }
        match read {
            Ok(Envelope { result: Some(result), .. }) => Ok(result),
            Ok(_) => Err(self.unexpected("it has neither a result nor an error")),
            Err(error) if error.classify() == Category::Data => {
                Err(self.unexpected(&fit_for_log(&error.to_string())))
            }
            Err(error) => Err(CallError::NotJson {
                url: self.url.clone(),
                method: self.method,
                reason: fit_for_log(&error.to_string()),
            }),
        }
    }

    /// The result, which is not null.
    pub(super) fn some<'a, T: Deserialize<'a>>(&'a self) -> Result<T, CallError> {
        self.result()?.ok_or_else(|| self.unexpected("it is null"))
    }

    pub(super) fn unexpected(&self, reason: &str) -> CallError {
        CallError::Unexpected { method: self.method, reason: reason.to_owned() }
    }

    /// What an HTTP status says that comes without JSON.
    fn refusal(&self) -> CallError {
        let method = self.method;
        let hint = match self.status.as_u16() {
            403 => return CallError::Forbidden { method },
            404 => return CallError::NotFound { url: self.url.clone() },
            413 => " (the request is too large for it: raise its limit on the size of requests)",
            429 => " (it limits how often we may ask)",
            503 => " (it is busy: raise its rpcworkqueue and rpcthreads)",
            _ => "",
        };
        let start = &self.body[..self.body.len().min(400)];
        let mut words = fit_for_log(&String::from_utf8_lossy(start));
        if !words.is_empty() {
            words.insert_str(0, ": ");
        }
        CallError::Status { method, status: self.status.as_u16(), words, hint }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, body: &str) -> Answer {
        Answer {
            url: "http://node:1".into(),
            method: "m",
            status: StatusCode::from_u16(status).unwrap(),
            body: body.into(),
        }
    }

    fn number(status: u16, body: &str) -> Result<Option<u32>, CallError> {
        answer(status, body).result()
    }

    #[test]
    fn both_versions() {
        assert_eq!(number(200, r#"{"result":7,"error":null,"id":1}"#).unwrap(), Some(7));
        assert_eq!(number(200, r#"{"jsonrpc":"2.0","result":7,"id":1}"#).unwrap(), Some(7));
        assert_eq!(number(200, r#"{"result":null,"error":null,"id":1}"#).unwrap(), None);
        for (status, body) in [
            (404, r#"{"result":null,"error":{"code":-32601,"message":"Method not found"},"id":1}"#),
            (200, r#"{"jsonrpc":"2.0","error":{"code":-32601,"message":"Method not found"},"id":1}"#),
        ] {
            let error = number(status, body).unwrap_err();
            assert!(matches!(error, CallError::Refused { code: -32601, .. }), "{error}");
        }
        let warmup = r#"{"result":null,"error":{"code":-28,"message":"Loading…"},"id":1}"#;
        assert_eq!(number(500, warmup).unwrap_err().to_string(), "the node is still starting: Loading…");
    }

    #[test]
    fn what_is_no_answer() {
        let unexpected = |body| matches!(number(200, body), Err(CallError::Unexpected { .. }));
        assert!(unexpected("{}"));
        assert!(unexpected(r#"{"id":1}"#));
        assert!(unexpected("[]"));
        assert!(unexpected(r#"{"result":-7}"#));
        assert!(unexpected(r#"{"result":"7"}"#));
        assert!(unexpected(r#"{"result":4294967296}"#));
        assert!(unexpected(r#"{"result":null,"error":"words"}"#));
        let not_json = |body: &str| matches!(number(200, body), Err(CallError::NotJson { .. }));
        assert!(not_json(""));
        assert!(not_json("<html>"));
        assert!(not_json(r#"{"result":7"#));
        assert!(not_json(r#"{"result":7} {}"#));
        assert!(not_json(&format!(r#"{{"x":{}"#, "[".repeat(1_000_000))));
        let null = answer(200, r#"{"result":null}"#);
        assert!(matches!(null.some::<u32>(), Err(CallError::Unexpected { .. })));
    }

    #[test]
    fn statuses() {
        assert!(
            number(200, &format!(r#"{{"result":7,"x":{}{}}}"#, "[".repeat(100_000), "]".repeat(100_000)))
                .is_ok()
        );
        assert!(matches!(number(403, ""), Err(CallError::Forbidden { method: "m" })));
        assert!(matches!(number(404, ""), Err(CallError::NotFound { .. })));
        let busy = number(503, "Work queue depth exceeded").unwrap_err().to_string();
        assert!(busy.contains("503: Work queue depth exceeded") && busy.contains("rpcworkqueue"), "{busy}");
        assert!(matches!(number(500, r#"{"result":7}"#), Err(CallError::Status { status: 500, .. })));
    }
}
