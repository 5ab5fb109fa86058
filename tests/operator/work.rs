//! Mining where shares are shares: on the embedded chain each is a block, and has others become stale.

use crate::node::{Mood, Node, USER};

/// A node on whose work no share is a block.
pub(crate) async fn node() -> Node {
    let mut mood = Mood::core();
    mood.template.insert("bits", "1d00ffff".into());
    mood.template.insert("target", format!("00000000ffff{:052}", 0).into());
    Node::start(mood).await
}

/// Mining on that, for the `[stratum_v2]` that a test has begun.
pub(crate) fn config(node: &Node) -> String {
    let (user, password) = USER.split_once(':').unwrap();
    format!(
        "network = \"regtest\"\nmax_connections_per_ip = 1000\nshares_per_minute = 60000\n\
         coinbase_reward_script = \"bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080\"\n\
         [[source]]\ntype = \"bitcoin_rpc\"\nurl = \"{}\"\nuser = \"{user}\"\npassword = \"{password}\"\n",
        node.url()
    )
}
