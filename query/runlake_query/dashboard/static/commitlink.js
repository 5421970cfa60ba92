// @ts-check
/** Where a commit is to be seen: its runs here, and its change where the repository is hosted. */

import { h } from "./dom.js";

/** @typedef {import("./place.js").Place} Place */

/** @param {any} run @param {Place} place */
export function commitLink(run, place) {
  const sha = run.commit_hash;
  const here = h("a", { href: place.at(`/commits/${encodeURIComponent(sha)}`), title: sha }, `⎇ ${sha.slice(0, 10)}`);
  const there = hosted(run.git_repo, sha);
  if (there === null) return h("span", {}, here);
  const host = new URL(there).host;
  return h("span", {}, here, h("a", { href: there, rel: "noreferrer", target: "_blank", title: there, "aria-label": `The commit at ${host}` }, ` ↗ ${host}`));
}

/**
 * The address of a commit, where the repository's own says how its host makes them; null where it does not.
 * @param {string | null} repository as git names it: `git@host:owner/name.git`, `https://host/owner/name`
 * @param {string} sha
 */
export function hosted(repository, sha) {
  const found = /^(?:https?:\/\/(?:[^@/]*@)?|ssh:\/\/(?:[^@/]*@)?|git@)([\w.-]+)(?::\d+)?[:/]([\w.~/-]+?)(?:\.git)?\/?$/.exec(repository ?? "");
  if (found === null || !/^[0-9a-zA-Z]+$/.test(sha)) return null;
  const [, host, path] = found;
  if (named(host, "github")) return `https://${host}/${path}/commit/${sha}`;
  if (named(host, "gitlab")) return `https://${host}/${path}/-/commit/${sha}`;
  return named(host, "bitbucket") ? `https://${host}/${path}/commits/${sha}` : null;
}

/** Whether a host is a service's own, or is called after it, as those that one runs oneself are. @param {string} host @param {string} service */
function named(host, service) {
  return host.split(".").includes(service);
}
