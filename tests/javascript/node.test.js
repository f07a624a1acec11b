// Runs every module here in Node.js; Chromium runs the same ones through tests/browser/test_units.py.

import { readdirSync } from "node:fs";
import { test } from "node:test";

for (const name of readdirSync(import.meta.dirname).filter((one) => one.endsWith("_test.js")).sort()) {
  const { tests } = await import(`./${name}`);
  for (const [title, action] of Object.entries(tests)) test(`${name}: ${title}`, action);
}
