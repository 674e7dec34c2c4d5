pub fn demo(_once: bool) -> anyhow::Result<()> {
    Ok(())
}
