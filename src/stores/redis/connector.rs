//! How to connect: to the one server, to the master that sentinels name, or to a cluster. What is opened has been examined.

use std::{sync::Arc, time::Duration};

use redis::{
    ConnectionInfo, RedisError, TlsMode,
    cluster::ClusterClient,
    io::tcp::{TcpSettings, socket2::TcpKeepalive},
    sentinel::{SentinelClient, SentinelClientBuilder, SentinelServerType},
};
use tokio::time::timeout_at;
use tokio_util::task::TaskTracker;

use super::{
    connection::{Connection, Opened},
    fault,
    server::{self, Expected},
    stream::{self, Heard, InFlight},
    tls::{self, TlsMaterial},
};
use crate::{
    ports::{clock::Deadline, store::StoreError},
    secret::Secret,
    stores::{SentinelLogin, StoreConfig, TlsFiles, url::Servers},
};

/// How often redis-rs tries a command of a cluster again: a key that moves may be asked of two nodes, and a new master is
/// known after some failures. An operation's deadline may end this earlier.
const CLUSTER_RETRIES: u32 = 8;
const CLUSTER_WAIT_MIN: u64 = 20;
const CLUSTER_WAIT_MAX: u64 = 250;
/// After so long without a sign of life a connection with something under way is dead, as when a firewall forgot it.
const SILENCE_MAX: Duration = Duration::from_secs(5);

/// How to connect.
pub(super) struct Connector {
    servers: Servers,
    /// `None`: not encrypted.
    tls: Option<TlsFiles>,
    login: SentinelLogin,
    expected: Expected,
    /// The address as it may be shown.
    pub(super) shown: Arc<str>,
    pub(super) connect_timeout: Duration,
    pub(super) operation_timeout: Duration,
    /// Whether the log tells of connecting. Of several connections to the same servers one is enough.
    pub(super) is_told: bool,
    /// Whether what was opened is examined. The same holds.
    pub(super) examines: bool,
    /// Tells the stream how many operations are under way.
    pub(super) in_flight: InFlight,
    /// Runs the tasks of connections.
    pub(super) tracker: TaskTracker,
}

impl Connector {
    pub(super) fn new(config: &StoreConfig, servers: &Servers, tracker: &TaskTracker) -> Self {
        Self {
            servers: servers.clone(),
            tls: config.url.is_tls().then(|| config.tls.clone()),
            login: config.sentinel.clone(),
            expected: Expected { noeviction: config.require_noeviction, confirmation: config.confirmation },
            shown: config.url.to_string().into(),
            connect_timeout: config.connect_timeout,
            operation_timeout: config.operation_timeout,
            is_told: true,
            examines: true,
            in_flight: InFlight::new(),
            tracker: tracker.clone(),
        }
    }

    /// Connects and examines the servers.
    pub(super) async fn connect(&self) -> Result<Opened, StoreError> {
        let late = |_| Err(StoreError::new("connect", "no answer in time").at(&self.shown));
        let opened = timeout_at(Deadline::after(self.time_max()).instant(), self.open()).await.unwrap_or_else(late)?;
        if self.examines {
            // Some twenty trips, each of which may be slow on a busy machine.
            let limit = Deadline::after(self.connect_timeout * 4);
            let examined = server::examine(&opened.connection, self.expected, limit);
            examined.await.map_err(|error| error.at(&self.shown))?;
        }
        Ok(opened)
    }

    /// The same, but the log does not tell of it.
    pub(super) fn untold(self) -> Self {
        Self { is_told: false, ..self }
    }

    /// The same for servers that another connection examines.
    pub(super) fn unexamined(self) -> Self {
        Self { examines: false, ..self }
    }

    pub(super) fn is_cluster(&self) -> bool {
        matches!(self.servers, Servers::Cluster(_))
    }

    /// How long opening may take. A look-up at sentinels, and finding the nodes of a cluster, wait for several servers.
    fn time_max(&self) -> Duration {
        let steps = match &self.servers {
            Servers::One(_) => 1,
            Servers::Cluster(_) | Servers::Sentinels { .. } => 8,
        };
        self.connect_timeout * steps
    }

    async fn open(&self) -> Result<Opened, StoreError> {
        match &self.servers {
            Servers::One(server) => self.open_one(server).await,
            Servers::Sentinels { .. } => {
                let master = self.master().await?;
                self.open_one(&master).await
            }
            Servers::Cluster(nodes) => self.open_cluster(nodes).await,
        }
    }

    async fn open_one(&self, server: &ConnectionInfo) -> Result<Opened, StoreError> {
        let server = server.clone().set_tcp_settings(tcp());
        let tls = match &self.tls {
            Some(files) => {
                let connector = TlsMaterial::read(files).await.and_then(|material| material.connector());
                Some((connector.map_err(|error| error.at(&self.shown))?, files.server_name.as_deref()))
            }
            None => None,
        };
        let tls = tls.map(|(connector, name)| {
            let name = name.or_else(|| stream::host(&server)).unwrap_or_default();
            tls::server_name(name).map(|name| (connector, name))
        });
        let tls = tls.transpose().map_err(|error| error.at(&self.shown))?;
        stream::open(&server, tls, &self.in_flight, &self.tracker).await.map_err(|error| self.failed(&error))
    }

    /// Asks the sentinels where the master is. redis-rs asks them side by side, and asks the master whether it is one.
    async fn master(&self) -> Result<ConnectionInfo, StoreError> {
        let Servers::Sentinels { sentinels, service, master } = &self.servers else {
            return Err(StoreError::lasting("connect", "no sentinels"));
        };
        let build = || {
            let mut builder =
                SentinelClientBuilder::new(sentinels.iter().cloned(), service, SentinelServerType::Master)?;
            builder = builder.set_client_to_redis_db(master.redis_settings().db());
            builder = builder.set_client_to_redis_tcp_settings(tcp()).set_client_to_sentinel_tcp_settings(tcp());
            let (user, password) = (master.redis_settings().username(), master.redis_settings().password());
            builder = user.into_iter().fold(builder, SentinelClientBuilder::set_client_to_redis_username);
            builder = password.into_iter().fold(builder, SentinelClientBuilder::set_client_to_redis_password);
            let SentinelLogin { user, password } = &self.login;
            builder = user.iter().fold(builder, SentinelClientBuilder::set_client_to_sentinel_username);
            let password = password.iter().map(Secret::expose);
            builder = password.fold(builder, SentinelClientBuilder::set_client_to_sentinel_password);
            Ok(builder)
        };
        let mut builder = build().map_err(|error| self.failed(&error))?;
        if let Some(files) = &self.tls {
            let certificates = TlsMaterial::read(files).await.map_err(|error| error.at(&self.shown))?.certificates();
            builder = builder.set_client_to_redis_tls_mode(TlsMode::Secure);
            builder = builder.set_client_to_sentinel_tls_mode(TlsMode::Secure);
            builder = builder.set_client_to_redis_certificates(certificates.clone());
            builder = builder.set_client_to_sentinel_certificates(certificates);
        }
        let mut client = builder.build().map_err(|error| self.failed(&error))?;
        match client.async_get_client().await {
            Ok(found) => Ok(found.get_connection_info().clone()),
            Err(error) if self.is_unknown(&mut client, service).await => {
                let cause = format!("the sentinels know no service {service} ({})", fault::words(&error));
                Err(StoreError::lasting("connect", cause).at(&self.shown))
            }
            Err(error) => Err(self.failed(&error)),
        }
    }

    /// Whether a sentinel says that it knows no service of this name, rather than no master that serves it now.
    async fn is_unknown(&self, client: &mut SentinelClient, service: &str) -> bool {
        let asked = async {
            let sentinel = client.async_get_sentinel_client().await?;
            let mut connection = sentinel.get_multiplexed_async_connection().await?;
            let mut ask = redis::cmd("SENTINEL");
            ask.arg("GET-MASTER-ADDR-BY-NAME").arg(service).query_async::<redis::Value>(&mut connection).await
        };
        let answer: redis::RedisResult<_> = asked.await;
        matches!(answer, Ok(redis::Value::Nil))
    }

    async fn open_cluster(&self, nodes: &[ConnectionInfo]) -> Result<Opened, StoreError> {
        let failed = |error: RedisError| self.failed(&error);
        // A node that is silent holds up what looks for the nodes: each step has a time of its own.
        let mut builder = ClusterClient::builder(nodes.to_vec())
            .tcp_settings(tcp())
            .connection_timeout(self.connect_timeout)
            .response_timeout(self.operation_timeout)
            .overall_response_timeout(None)
            .retries(CLUSTER_RETRIES)
            .min_retry_wait(CLUSTER_WAIT_MIN)
            .max_retry_wait(CLUSTER_WAIT_MAX);
        if let Some(files) = &self.tls {
            let material = TlsMaterial::read(files).await.map_err(|error| error.at(&self.shown))?;
            builder = builder.certs(material.certificates());
        }
        let mut cluster = builder.build().map_err(failed)?.get_async_connection().await.map_err(failed)?;
        let seed = nodes.first().and_then(stream::host).unwrap_or_default();
        let layout = Connection::layout_now(&mut cluster, seed).await.map_err(failed)?;
        Ok(Opened { connection: Connection::Cluster(cluster, Arc::new(layout)), driver: None, heard: Heard::default() })
    }

    fn failed(&self, error: &RedisError) -> StoreError {
        fault::while_connecting(error).at(&self.shown)
    }
}

/// Keepalive finds a dead peer behind a quiet connection, the other limit behind a busy one; without nodelay, small requests wait for each other.
fn tcp() -> TcpSettings {
    let keepalive = TcpKeepalive::new().with_time(Duration::from_secs(30));
    TcpSettings::default().set_nodelay(true).set_keepalive(keepalive).set_user_timeout(SILENCE_MAX)
}
