//! A real Envoy of the test's own, before the replicas of an otpd: on ports of the loopback, with a configuration that the test
//! makes.
//!
//! What the configuration says of retries, health and outliers is what docs/operations.md advises for a mesh.

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use otpd::ports::clock::Deadline;
use serde_json::{Value, json};

use crate::redis_server::Port;

/// What is retried, as Istio does by default, and where a connection was reset: a call that is made again under the same
/// `request_id` counts once.
const RETRIED: &str = "connect-failure,refused-stream,unavailable,cancelled,reset";
/// How often a replica is asked whether it serves.
const CHECKED_EVERY: &str = "0.25s";

/// A running Envoy. Ends when dropped.
pub(crate) struct Envoy {
    child: Child,
    callers: Port,
    admin: Port,
    folder: tempfile::TempDir,
}

impl Envoy {
    /// Starts one before these replicas; nothing where `SKIP_ENVOY=1` says that its tests are left out. A missing program is no
    /// reason to leave them out: they fail, and say what to do.
    pub(crate) fn start(replicas: &[u16]) -> Option<Self> {
        Self::start_with(replicas, &health_checks())
    }

    /// The same, of replicas that are not asked whether they serve.
    pub(crate) fn start_without_checks(replicas: &[u16]) -> Option<Self> {
        Self::start_with(replicas, &json!([]))
    }

    fn start_with(replicas: &[u16], health_checks: &Value) -> Option<Self> {
        if variable("SKIP_ENVOY").as_deref() == Some("1") {
            return None;
        }
        let folder = tempfile::Builder::new().prefix("otpd-envoy-").tempdir().expect("a temporary folder");
        let (callers, admin) = (Port::reserve(), Port::reserve());
        let path = folder.path().join("envoy.json");
        let access = folder.path().join("access");
        let bootstrap = bootstrap(callers.number(), admin.number(), replicas, (health_checks, &access));
        fs::write(&path, bootstrap.to_string()).expect("the file is written");
        let log = fs::File::create(folder.path().join("log")).expect("a log");
        let mut command = Command::new(program());
        command.arg("-c").arg(&path).args(["--concurrency", "1", "--disable-hot-restart", "--log-level", "warning"]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let child = command.spawn().unwrap_or_else(|error| missing(&error));
        let envoy = Self { child, callers, admin, folder };
        envoy.wait_ready();
        Some(envoy)
    }

    /// Where callers connect to.
    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.callers.number())
    }

    /// A number of its statistics, of the replicas: such as `membership_healthy`.
    pub(crate) fn count(&self, name: &str) -> u64 {
        let name = format!("cluster.otpd.{name}");
        let answer = self.ask(&format!("/stats?filter=^{name}$"));
        let line = answer.lines().find_map(|line| line.strip_prefix(&format!("{name}: ")));
        line.and_then(|count| count.trim().parse().ok()).unwrap_or_else(|| panic!("no {name}: {answer}"))
    }

    fn wait_ready(&self) {
        let deadline = Deadline::after(Duration::from_secs(30));
        while !self.ask("/ready").starts_with("HTTP/1.1 200") {
            assert!(!deadline.remaining().is_zero(), "Envoy did not start: {}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// What it has logged so far.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// Its access log: an object for each call.
    pub(crate) fn access(&self) -> String {
        fs::read_to_string(self.folder.path().join("access")).unwrap_or_default()
    }

    fn ask(&self, path: &str) -> String {
        let ask = || -> std::io::Result<String> {
            let mut stream = TcpStream::connect(("127.0.0.1", self.admin.number()))?;
            stream.set_read_timeout(Some(Duration::from_secs(10)))?;
            write!(stream, "GET {path} HTTP/1.1\r\nhost: envoy\r\nconnection: close\r\n\r\n")?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            Ok(answer)
        };
        ask().unwrap_or_default()
    }
}

impl Drop for Envoy {
    fn drop(&mut self) {
        drop((self.child.kill(), self.child.wait()));
    }
}

fn bootstrap(callers: u16, admin: u16, replicas: &[u16], (health_checks, access): (&Value, &Path)) -> Value {
    let endpoints: Vec<_> = replicas.iter().map(|port| json!({"endpoint": {"address": address(*port)}})).collect();
    json!({
        "admin": {"address": address(admin)},
        "static_resources": {
            "listeners": [{
                "name": "callers",
                "address": address(callers),
                "filter_chains": [{"filters": [{
                    "name": "envoy.filters.network.http_connection_manager",
                    "typed_config": connection_manager(access),
                }]}],
            }],
            "clusters": [{
                "name": "otpd",
                "type": "STATIC",
                "connect_timeout": "1s",
                "lb_policy": "ROUND_ROBIN",
                "load_assignment": {"cluster_name": "otpd", "endpoints": [{"lb_endpoints": endpoints}]},
                "typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                    "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                    "explicit_http_config": {"http2_protocol_options": {}},
                }},
                // Its default: retries are at most a fifth of the calls in flight, and three always may be.
                "circuit_breakers": {"thresholds": [{"retry_budget": {}}]},
                "health_checks": health_checks,
                // By what Envoy itself sees of a connection. All replicas share the store, so answers that it is away
                // say nothing of the replica that gives them: health does.
                "outlier_detection": {
                    "interval": "0.5s",
                    "split_external_local_origin_errors": true,
                    "consecutive_local_origin_failure": 5,
                    "enforcing_consecutive_5xx": 0,
                    "enforcing_consecutive_gateway_failure": 0,
                    "enforcing_success_rate": 0,
                },
            }],
        },
    })
}

fn health_checks() -> Value {
    json!([{
        "interval": CHECKED_EVERY,
        "no_traffic_interval": CHECKED_EVERY,
        "unhealthy_interval": CHECKED_EVERY,
        "timeout": "2s",
        "healthy_threshold": 1,
        "unhealthy_threshold": 2,
        "grpc_health_check": {"service_name": "otp.v1.OtpService"},
    }])
}

fn connection_manager(access: &Path) -> Value {
    json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "callers",
        "codec_type": "HTTP2",
        "access_log": [{
            "name": "envoy.access_loggers.file",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog",
                "path": access,
                "log_format": {"json_format": {
                    "x_request_id": "%REQ(X-REQUEST-ID)%",
                    "path": "%REQ(:PATH)%",
                    "grpc_status": "%GRPC_STATUS%",
                    "upstream": "%UPSTREAM_HOST%",
                }},
            },
        }],
        "route_config": {"virtual_hosts": [{
            "name": "otpd",
            "domains": ["*"],
            "routes": [{
                "match": {"prefix": "/"},
                "route": {
                    "cluster": "otpd",
                    "timeout": "15s",
                    "retry_policy": {
                        "retry_on": RETRIED,
                        "num_retries": 2,
                        "retry_host_predicate": [{
                            "name": "envoy.retry_host_predicates.previous_hosts",
                            "typed_config": {
                                "@type": "type.googleapis.com/envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate",
                            },
                        }],
                        "host_selection_retry_max_attempts": 3,
                    },
                },
            }],
        }]},
        "http_filters": [{
            "name": "envoy.filters.http.router",
            "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"},
        }],
    })
}

fn address(port: u16) -> Value {
    json!({"socket_address": {"address": "127.0.0.1", "port_value": port}})
}

/// Of `ENVOY_SERVER`, else the one that scripts/test has fetched, else of the system.
fn program() -> PathBuf {
    let fetched = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools/envoy");
    let named = variable("ENVOY_SERVER").map(PathBuf::from);
    named.or_else(|| fetched.exists().then_some(fetched)).unwrap_or_else(|| PathBuf::from("envoy"))
}

fn missing(error: &std::io::Error) -> ! {
    let advice =
        "run scripts/test, which fetches it; or name it in ENVOY_SERVER; or leave its tests out with SKIP_ENVOY=1";
    panic!("cannot run Envoy ({error}): these tests need it. {advice}")
}

#[expect(clippy::disallowed_methods, reason = "where a program of the tests is, is no setting of otpd")]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}
