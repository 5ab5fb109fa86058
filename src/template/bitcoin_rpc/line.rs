//! A connection to a node, and the calls on it.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Bytes, Incoming};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::answer::Answer;
use super::auth::Auth;
use super::error::CallError;
use super::url::Url;
use crate::aside::{aside, resolve};

/// How long a connection may take to come about.
const CONNECT: Duration = Duration::from_secs(5);
/// How long an answer may take to come in once it has begun.
const BODY: Duration = Duration::from_secs(15);
/// No answer needs more bytes: a block has four million at most, and they come as hexadecimal digits.
const MAX_BODY: usize = 64 << 20;
/// After this long without a packet, a peer shows that it is still there.
const KEEPALIVE: Duration = Duration::from_secs(30);

/// Where the node is, and what it knows us by.
#[derive(Debug)]
pub(super) struct Endpoint {
    pub(super) url: Url,
    pub(super) auth: Auth,
}

/// One call at a time, on a connection that is kept between them.
#[derive(Debug)]
pub(super) struct Line {
    endpoint: Arc<Endpoint>,
    connection: Option<Connection>,
    /// Connections so far.
    made: u64,
}

#[derive(Debug)]
struct Connection {
    sender: SendRequest<Full<Bytes>>,
    authorization: HeaderValue,
    /// Moves the bytes. Ends with this.
    _driver: JoinSet<()>,
}

#[derive(Serialize)]
struct Call<'a, P> {
    jsonrpc: &'a str,
    id: u32,
    method: &'a str,
    params: P,
}

impl Line {
    pub(super) fn new(endpoint: Arc<Endpoint>) -> Self {
        Self { endpoint, connection: None, made: 0 }
    }

    /// Which connection it is: another number means that another node may have answered.
    pub(super) fn number(&self) -> u64 {
        self.made
    }

    /// Calls `method`; the answer has to begin within `patience`.
    ///
    /// A node closes connections that have been idle, and may do so while a request is on its way:
    /// then there is another attempt on a new connection. None of the calls we make does harm when
    /// made twice.
    pub(super) async fn call(
        &mut self,
        method: &'static str,
        params: impl Serialize,
        patience: Duration,
    ) -> Result<Answer, CallError> {
        let call = Call { jsonrpc: "2.0", id: 1, method, params };
        let request = Bytes::from(serde_json::to_vec(&call).expect("what we ask is JSON"));
        loop {
            // Taken out for the while: a call that is given up takes its connection with it.
            let kept = self.connection.take().filter(|connection| !connection.sender.is_closed());
            let used = kept.is_some();
            let mut connection = match kept {
                Some(connection) => connection,
                None => self.connect().await?,
            };
            let sent = connection.send(&self.endpoint, request.clone());
            let response = match timeout(patience, sent).await {
                Err(_) => return Err(CallError::Timeout { method, seconds: patience.as_secs() }),
                Ok(Err(error)) if used && !error.is_parse() => continue,
                Ok(Err(error)) => return Err(self.broken(method, &error)),
                Ok(Ok(response)) => response,
            };
            let status = response.status();
            if status == StatusCode::UNAUTHORIZED {
                // the node may have started anew, with another cookie
                if used {
                    continue;
                }
                return Err(self.unauthorized());
            }
            let body = match timeout(BODY, read(response.into_body())).await {
                Err(_) => return Err(CallError::Timeout { method, seconds: BODY.as_secs() }),
                Ok(Err(ReadError::TooLong)) => return Err(CallError::TooLong { method, limit: MAX_BODY }),
                Ok(Err(ReadError::Broken(error))) => return Err(self.broken(method, &error)),
                Ok(Ok(body)) => body,
            };
            self.connection = Some(connection);
            return Ok(Answer { url: self.endpoint.url.to_string(), method, status, body });
        }
    }

    async fn connect(&mut self) -> Result<Connection, CallError> {
        let url = &self.endpoint.url;
        let late = |_| CallError::ConnectTimeout { url: url.to_string(), seconds: CONNECT.as_secs() };
        let failed = |source: io::Error| match source.kind() {
            io::ErrorKind::ConnectionRefused => CallError::NobodyThere { url: url.to_string() },
            _ => CallError::Connect { url: url.to_string(), source },
        };
        let endpoint = self.endpoint.clone();
        let authorization = timeout(CONNECT, aside(move || endpoint.auth.header())).await;
        let authorization =
            authorization.map_err(late)?.map_err(|error| failed(io::Error::other(error)))??;
        let connecting = async { TcpStream::connect(&resolve(&url.host, url.port).await?[..]).await };
        let stream = timeout(CONNECT, connecting).await.map_err(late)?.map_err(failed)?;
        stream.set_nodelay(true).map_err(failed)?;
        let keepalive = TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE / 3);
        SockRef::from(&stream).set_tcp_keepalive(&keepalive).map_err(failed)?;
        let (sender, connection) =
            handshake(TokioIo::new(stream)).await.map_err(|error| failed(io::Error::other(error)))?;
        let mut driver = JoinSet::new();
        driver.spawn(async move {
            // what goes wrong is heard by the call that waits
            let _ = connection.await;
        });
        self.made += 1;
        Ok(Connection { sender, authorization, _driver: driver })
    }

    fn unauthorized(&self) -> CallError {
        let url = self.endpoint.url.to_string();
        match &self.endpoint.auth {
            Auth::CookieFile(path) => CallError::CookieRefused { url, path: path.clone() },
            Auth::UserPassword { .. } => CallError::PasswordRefused { url },
        }
    }

    fn broken(&self, method: &'static str, error: &hyper::Error) -> CallError {
        let (url, reason) = (self.endpoint.url.to_string(), reason(error));
        if error.is_parse() {
            CallError::NotHttp { url, reason }
        } else {
            CallError::Lost { url, method, reason }
        }
    }
}

impl Connection {
    async fn send(&mut self, endpoint: &Endpoint, body: Bytes) -> Result<Response<Incoming>, hyper::Error> {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = hyper::Method::POST;
        let headers = request.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(AUTHORIZATION, self.authorization.clone());
        headers.extend(endpoint.url.host_header().map(|host| (HOST, host)));
        self.sender.ready().await?;
        self.sender.send_request(request).await
    }
}

enum ReadError {
    TooLong,
    Broken(hyper::Error),
}

async fn read(mut body: Incoming) -> Result<Vec<u8>, ReadError> {
    if body.size_hint().lower() > MAX_BODY as u64 {
        return Err(ReadError::TooLong);
    }
    let mut bytes = Vec::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(ReadError::Broken)?.into_data() else { continue };
        if data.len() > MAX_BODY - bytes.len() {
            return Err(ReadError::TooLong);
        }
        bytes.extend_from_slice(&data);
    }
    Ok(bytes)
}

/// An error with what caused it, as hyper keeps the two apart.
fn reason(error: &hyper::Error) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}
