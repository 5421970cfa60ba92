# The ingest worker alone. From the root of the checkout:
#   docker build -f deploy/ingest.Dockerfile -t runlake-ingest .
FROM python:3.11-slim-bookworm AS build
COPY pyproject.toml README.md LICENSE /src/
COPY shared /src/shared
COPY ingest /src/ingest
COPY query /src/query
# For a cluster: --build-arg EXTRAS=ingest,cluster
ARG EXTRAS=ingest
RUN python -m venv /opt/runlake && /opt/runlake/bin/pip install --no-cache-dir --no-compile "/src[$EXTRAS]"

FROM python:3.11-slim-bookworm
# The numbers are fixed, so that volumes keep their owners: 64200 is the group that may read the lake.
RUN groupadd --gid 64200 runlake \
    && useradd --uid 64201 --gid runlake --no-create-home --home-dir /var/lib/runlake --shell /usr/sbin/nologin runlake \
    && install -d -o 64201 -g 64200 -m 0750 /var/lib/runlake \
    && install -d -o 64201 -g 64200 -m 2750 /run/runlake
COPY --from=build /opt/runlake /opt/runlake
ENV PATH=/opt/runlake/bin:$PATH RUNLAKE_DATA=/var/lib/runlake
WORKDIR /var/lib/runlake
VOLUME /var/lib/runlake
USER 64201:64200
STOPSIGNAL SIGTERM
# The group may read what is written here, and others nothing.
ENTRYPOINT ["/bin/sh", "-c", "umask 0027 && exec runlake ingest \"$@\"", "runlake-ingest"]
HEALTHCHECK --interval=15s --timeout=10s --start-period=60s --retries=3 CMD ["runlake", "probe", "ingest"]
