-- What models cost, so that everyone who reads this lake computes the same costs. One row per price; a list is written
-- whole, and never changed: the one of the highest version is in force. (Two that were written at the same moment may have
-- one version; then that of the higher id.) Prices are US dollars per million tokens.
CREATE TABLE prices (
    list UUID NOT NULL,
    version INTEGER NOT NULL,
    source VARCHAR NOT NULL,
    written_at TIMESTAMPTZ NOT NULL,
    model VARCHAR NOT NULL,
    valid_from TIMESTAMPTZ NOT NULL,
    input DECIMAL(18,9) NOT NULL,
    output DECIMAL(18,9) NOT NULL,
    cache_read DECIMAL(18,9),
    cache_write DECIMAL(18,9)
);
