import { mentionsOf } from "/static/mentions.js";
import { equal } from "/tests/javascript/check.js";

export const tests = {
  "the last signs of a sentence are no part of an id, unless a member is called so"() {
    equal(mentionsOf("@ben. @ben:- @a.b. @dot. @nobody.", ["ben", "a.b", "dot."]), ["ben", "a.b", "dot."]);
    equal(mentionsOf("@... @", ["ben"]), []);
  },

  "a name is looked up 129 times at most, however many signs are behind it"() {
    const { has } = Set.prototype;
    let count = 0;
    Set.prototype.has = function (value) {
      count += 1;
      return has.call(this, value);
    };
    try {
      equal(mentionsOf(`@ben${".".repeat(60_000)}`, ["ben"]), ["ben"]);
    } finally {
      Set.prototype.has = has;
    }
    equal(count <= 129, true, count);
    const name = "n".repeat(128);
    equal(mentionsOf(`@${name}. @${name}x`, [name]), [name]);
  },
};
