# One query process: the HTTP API and the dashboard. From the root of the checkout:
#   docker build -f deploy/query.Dockerfile -t runlake-query .
FROM python:3.11-slim-bookworm AS build
COPY pyproject.toml README.md LICENSE /src/
COPY shared /src/shared
COPY ingest /src/ingest
COPY query /src/query
# For a cluster: --build-arg EXTRAS=query,cluster
ARG EXTRAS=query
RUN python -m venv /opt/runlake && /opt/runlake/bin/pip install --no-cache-dir --no-compile "/src[$EXTRAS]"

FROM python:3.11-slim-bookworm
# The numbers are fixed, so that volumes keep their owners: 64200 is the group that may read the lake.
RUN groupadd --gid 64200 runlake \
    && useradd --uid 64202 --gid runlake --no-create-home --home-dir /var/lib/runlake-query \
       --shell /usr/sbin/nologin runlake \
    && install -d -o 64201 -g 64200 -m 0750 /var/lib/runlake \
    && install -d -o 64202 -g 64200 -m 0700 /var/lib/runlake-query
COPY --from=build /opt/runlake /opt/runlake
ENV PATH=/opt/runlake/bin:$PATH RUNLAKE_DATA=/var/lib/runlake RUNLAKE_READ_MODEL=/var/lib/runlake-query
WORKDIR /var/lib/runlake-query
VOLUME /var/lib/runlake-query
USER 64202:64200
STOPSIGNAL SIGTERM
ENTRYPOINT ["/bin/sh", "-c", "umask 0077 && exec runlake query \"$@\"", "runlake-query"]
HEALTHCHECK --interval=15s --timeout=10s --start-period=60s --retries=3 CMD ["runlake", "probe", "query"]
