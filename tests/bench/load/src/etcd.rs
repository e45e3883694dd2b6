//! A connection to etcd: its gRPC interface, one HTTP/2 connection each, a run's commands side by side on it.

use anyhow::{Result, bail};
use bytes::Bytes;
use futures::future::try_join_all;
use rand::rngs::SmallRng;
use tonic::transport::{Channel, Endpoint};

use crate::keys::{self, Share};
use crate::work::{Target, Workload};

#[allow(missing_docs, clippy::all)]
mod generated {
    tonic::include_proto!("etcdserverpb");
}

use generated::kv_client::KvClient;
use generated::{PutRequest, RangeRequest, RequestOp, TxnRequest};

/// What one command asks.
pub enum Ask {
    Put(PutRequest),
    Range(RangeRequest),
    Txn(TxnRequest),
}

/// One connection.
#[derive(Clone)]
pub struct Connection {
    client: KvClient<Channel>,
}

impl Connection {
    pub async fn open(addr: &str) -> Result<Self> {
        let channel = Endpoint::from_shared(format!("http://{addr}"))?.tcp_nodelay(true).connect().await?;
        Ok(Self { client: KvClient::new(channel) })
    }

    /// Asks one thing.
    pub async fn ask(&self, ask: Ask) -> Result<()> {
        let mut client = self.client.clone();
        match ask {
            Ask::Put(put) => drop(client.put(put).await?),
            Ask::Range(range) => drop(client.range(range).await?),
            Ask::Txn(txn) => {
                if !client.txn(txn).await?.into_inner().succeeded {
                    bail!("etcd refuses a transaction without conditions");
                }
            }
        }
        Ok(())
    }

    /// Asks for all at once and waits for every answer.
    pub async fn exchange(&self, asks: Vec<Ask>) -> Result<()> {
        try_join_all(asks.into_iter().map(|ask| self.ask(ask))).await.map(drop)
    }
}

/// Makes what one connection asks.
pub struct Composer {
    workload: Workload,
    rng: SmallRng,
    value: Bytes,
}

impl Composer {
    pub fn new(workload: Workload, target: &Target, rng: SmallRng) -> Result<Self> {
        use Workload::{Get, Mixed, Multi, Reads, Set};
        if !matches!(workload, Set | Get | Mixed | Reads | Multi) {
            bail!("etcd has nothing like {workload:?}");
        }
        Ok(Self { workload, rng, value: vec![b'x'; target.value_bytes].into() })
    }

    pub fn next(&mut self, share: &Share) -> Ask {
        let writes = self.workload.writes(&mut self.rng);
        let key = self.workload.key(share, &mut self.rng);
        if self.workload == Workload::Multi {
            return puts((0..5).map(|number| keys::tagged(key, &format!("m{number}")).into()), &self.value);
        }
        let key = Bytes::copy_from_slice(&keys::name(key));
        match writes {
            true => Ask::Put(PutRequest { key, value: self.value.clone() }),
            false => Ask::Range(RangeRequest { key }),
        }
    }
}

/// One transaction that puts all of `keys`.
pub fn puts(keys: impl Iterator<Item = Bytes>, value: &Bytes) -> Ask {
    let put = |key| RequestOp { request_put: Some(PutRequest { key, value: value.clone() }) };
    Ask::Txn(TxnRequest { success: keys.map(put).collect() })
}
