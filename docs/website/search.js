// SPDX-License-Identifier: BSD-2-Clause
//
// Finds rows of the failure table by a person's words.  Without this script
// the page is the whole table; with it, the best rows stand first.
"use strict";

(function () {
    const MOST = 12; // rows shown
    const form = document.getElementById("search");
    const input = document.getElementById("words");
    const found = document.getElementById("found");
    const best = document.getElementById("best");
    const all = document.getElementById("rows");
    const { synonyms, inFull } = JSON.parse(document.getElementById("language").textContent);
    const dull = new Set(("a an and as at be but by do does for from has have i in is it its my "
        + "no not of on or so that the then there to was when where which with why").split(" "));

    const words = (text) => text.toLowerCase().match(/#?[a-z0-9_]+/g) || [];
    // One form for start, starts, started, starting.
    const stem = (word) => word.length < 5 ? word
        : word.replace(/(ing|ed|es|s)$/, "").replace(/(.)\1$/, "$1");

    // The words of a text, with what they abbreviate.
    const said = (text) => new Set(
        words(text).flatMap((word) => [word, ...words(inFull[word] || "")]).map(stem));

    const rows = Array.from(all.querySelectorAll("li")).map((item) => ({
        item,
        id: said(item.id.replace(/-/g, " ")),
        title: said(item.querySelector("a").textContent),
        seen: said(item.querySelector("p").textContent),
        more: said(item.dataset.more),
    }));
    const places = [["id", 3], ["seen", 3], ["title", 2], ["more", 1]];

    // A word that few rows have says more than one that many have.
    const weights = new Map();
    for (const row of rows) {
        for (const word of new Set(places.flatMap(([place]) => [...row[place]]))) {
            weights.set(word, (weights.get(word) || 0) + 1);
        }
    }
    const weight = (word) => Math.log(1 + rows.length / (weights.get(word) || rows.length));

    function match(row, word) {
        const found = places.map(([place, worth]) => {
            if (row[place].has(word)) {
                return worth * weight(word);
            }
            const longer = word.length > 2
                ? [...row[place]].filter((other) => other.startsWith(word)) : [];
            return Math.max(0, ...longer.map((other) => 0.7 * worth * weight(other)));
        });
        const most = Math.max(...found);
        return most + 0.3 * (found.reduce((sum, one) => sum + one, 0) - most);
    }

    function score(row, asked) {
        let sum = 0;
        let hit = 0;
        for (const { word, others } of asked) {
            const own = match(row, word);
            const near = Math.max(0, ...others.map((other) => match(row, other)));
            const worth = Math.max(own, 0.5 * near);
            sum += worth;
            hit += worth > 0 ? 1 : 0;
        }
        return hit ? sum * (0.4 + 0.6 * hit / asked.length) : 0;
    }

    function search() {
        const asked = words(input.value).filter((word) => !dull.has(word)).map((word) => ({
            word: stem(word),
            others: words(synonyms[word] || synonyms[stem(word)] || "").map(stem),
        }));
        history.replaceState(null, "", asked.length
            ? "#q=" + encodeURIComponent(input.value) : location.pathname);
        best.replaceChildren();
        best.hidden = asked.length === 0;
        all.hidden = asked.length !== 0;
        if (asked.length === 0) {
            found.textContent = "";
            return;
        }
        const ranked = rows.map((row) => ({ row, worth: score(row, asked) }))
            .filter(({ worth }) => worth > 0).sort((a, b) => b.worth - a.worth);
        const good = ranked.filter(({ worth }) => worth > 0.3 * ranked[0].worth).slice(0, MOST);
        for (const { row } of good) {
            const copy = row.item.cloneNode(true);
            copy.removeAttribute("id");
            best.append(copy);
        }
        found.textContent = good.length === 0 ? "No row has these words."
            : good.length === 1 ? "1 row" : good.length + " rows, the best first";
    }

    form.hidden = false;
    form.addEventListener("submit", (event) => event.preventDefault());
    input.addEventListener("input", search);
    if (location.hash.startsWith("#q=")) {
        input.value = decodeURIComponent(location.hash.slice(3));
        search();
    }
})();
