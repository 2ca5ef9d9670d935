//! t
use commerce_workload::replay::*;
#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let a: Vec<String> = std::env::args().collect();
    let r = run(ReplaySettings { format: a[1].parse().map_err(anyhow::Error::msg)?, path: a[2].clone().into(), rejects: Some("/tmp/rej.csv".into()), initial_stock: 1000, json: Some("/tmp/r.json".into()), database_url: a[3].clone(), log: commerce_api::EventLog::new(a[4].clone(), Default::default(), None), chunk_lines: a[5].parse()? }).await?;
    let _ = r; Ok(())
}
