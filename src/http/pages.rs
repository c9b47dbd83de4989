//! The three pages.

use std::time::Instant;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use metrics_exporter_prometheus::PrometheusHandle;
use pipeline::metric;

use super::health::Health;

/// GET and HEAD; any other method is answered with 405, any other path with 404.
pub(super) fn router(health: Health, numbers: PrometheusHandle) -> Router {
    Router::new()
        .route("/", get(|| async { text(StatusCode::OK, "walferry: /healthz /readyz /metrics") }))
        .route("/healthz", get(|| async { text(StatusCode::OK, "alive") }))
        .route("/readyz", get(readyz))
        .route("/metrics", get(show))
        .fallback(|| async { text(StatusCode::NOT_FOUND, "no such page: /healthz /readyz /metrics") })
        .with_state((health, numbers))
}

type Shared = State<(Health, PrometheusHandle)>;

async fn readyz(State((health, _)): Shared) -> Response {
    match health.verdict(Instant::now()) {
        Ok(()) => text(StatusCode::OK, "ready"),
        Err(reason) => text(StatusCode::SERVICE_UNAVAILABLE, &reason),
    }
}

async fn show(State((health, numbers)): Shared) -> Response {
    metrics::gauge!(metric::READY).set(u8::from(health.verdict(Instant::now()).is_ok()));
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], numbers.render()).into_response()
}

fn text(status: StatusCode, line: &str) -> Response {
    (status, [(header::CONTENT_TYPE, "text/plain; charset=utf-8")], format!("{line}\n")).into_response()
}
