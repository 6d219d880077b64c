"""The plots of the generated stories, written for this project.

A line `= name` begins a plot and `~` a paragraph. `- sentence` begins a beat, and each `| sentence` below it says the
same beat otherwise. Names in braces are slots that `train.data.stories` fills. Any change here changes stories that
runs were trained on, so it needs a new `STORIES_VERSION` there.
"""

from __future__ import annotations

Paragraph = tuple[tuple[str, ...], ...]  # beats, each a choice of sentences
Plot = tuple[Paragraph, ...]

_OPENING = """
- Once upon a time there was a {kind} named {hero}.
| Once upon a time, a {kind} named {hero} lived near {home}.
| Once upon a time, in a house near {home}, there lived a {kind} named {hero}.
| There once was a {kind} named {hero} who lived near {home}.
| Long ago, a {kind} named {hero} lived with {elder} near {home}.
- {He} was {trait} and {trait2}.
| {He} was very {trait}.
| Everyone said that {hero} was {trait} and {trait2}.
| {hero} was {trait}, and {he} liked to play with {friend}.
"""

_CLOSING = """
- That night, {hero} slept very well.
| Everyone was happy.
| And they all laughed for a long time.
| It was a very good day.
| And that is the end of the story.
"""

_PLOTS = """
= the lost thing
- {His} best toy was a {look} {thing}.
| {elder} gave {him} a {look} {thing}, and {he} took it everywhere.
| {He} had a {look} {thing} and loved it more than anything.
~
- {day}, {hero} could not find the {thing}.
| {day}, the {thing} was gone.
| {day}, {hero} came home from {place} without the {thing}.
- {He} looked {spot}. {He} looked {spot2}. It was not there.
| {hero} looked {spot}, and then {spot2}, but there was no {thing}.
- {He} was so sad that {he} began to cry.
| "Oh no!" said {hero}. "Where is my {thing}?"
~
- {His} friend {friend} came and said, "Do not cry. I will help you."
| "I will help you look," said {his} friend {friend}.
- They looked together, and at last {friend} found it {spot3}!
| Then {friend} saw something {look} {spot3}. It was the {thing}!
- "Thank you, {friend}!" said {hero}, and {he} gave {fhim} a big hug.
| {hero} jumped up and down. "You are a good friend," {he} said.
- From that day on, {hero} always put the {thing} back in its place.
| Now {hero} knew that a friend is worth more than a {thing}.
= the hurt animal
~
- {day}, {hero} went for a walk to {place}.
| {day}, {hero} was playing near {place}.
- {He} heard a soft sound. Something moved {spot}.
| Then {he} saw something {spot}.
- It was a {coat} {animal}, and its leg was hurt.
| It was a {coat} {animal}. It was cold and could not walk.
~
- "Do not be afraid," said {hero}. "I will help you."
| "Poor little {animal}," said {hero}. "You can come with me."
- {He} carried the {animal} home and showed it to {elder}.
| {hero} held it close and ran home to {elder}.
- They gave it warm milk and a soft blanket.
| {elder} made a small bed for it, and {hero} gave it some water.
- Day by day, the {animal} grew strong.
| Every day the {animal} was a little better.
~
- Soon the {animal} could run and play, but it did not run away. It stayed with {hero}.
| One morning the {animal} ran to {place}. But every evening it came back to see {hero}.
- "When you are kind, you find a friend," said {elder}.
| {hero} was glad that {he} had stopped to help.
= the shared meal
~
- {day}, {elder} gave {hero} a {taste} {food}.
| {day}, {hero} helped {elder} to make a {taste} {food}.
- {hero} went to {place} to eat it.
| {He} sat down near {place} to eat it.
- There {he} saw {friend}, who looked sad.
| Then {friend} came by. {fHe} looked tired and sad.
~
- "What is wrong?" asked {hero}. "I am hungry, and I have nothing to eat," said {friend}.
| "Why are you sad?" asked {hero}. "I lost my lunch," said {friend}.
- {hero} looked at the {food}. {He} wanted to eat it all.
| {hero} was hungry too, and there was only one {food}.
- But {friend} was {his} friend, so {he} gave {fhim} one half.
| Then {he} smiled and said, "We can share. Half for you and half for me."
~
- "This is the best {food} ever!" said {friend}.
| "Thank you," said {friend}. "You are very kind."
- The next day, {friend} came with a {look} {thing}. "Now we can share this," {fhe} said.
| The next day, {friend} brought two big apples, one for each of them.
- {hero} learned that food tastes better when you share it.
| After that, they shared everything they had.
= the hard lesson
~
- {day}, {hero} saw how well {friend} could {skill}.
| {day}, {hero} and {friend} met near {place}. {friend} could {skill}, but {hero} could not.
- "I want to {skill} too," said {hero}.
| "Please show me how to {skill}," said {hero}.
- {He} tried once, and it went wrong. {He} tried again, and it went wrong again.
| {He} tried and tried, but it did not go well.
~
- "It is too hard," said {hero}. "I will never {skill}."
| {hero} sat down {spot} and wanted to give up.
- {elder} smiled. "Everything is hard at first," said {elder}. "Try a little every day."
| "I could not do it at first," said {friend}. "You must try every day."
- So {hero} tried the next day, and the day after that.
| So {hero} got up and tried again, every day for a week.
~
- Then, at last, {he} could {skill}!
| One morning it went well. Now {hero} could {skill}!
- "Look at me!" {he} called. {elder} and {friend} clapped their hands.
| {friend} was so proud of {him} that {fhe} danced.
- If you keep trying, hard things become easy.
| {hero} never said "never" again.
= the rainy day
~
- {day}, {hero} and {friend} wanted to go to {place}.
| {day}, {hero} asked {friend} to come along to {place}.
- They packed a {taste} {food} and a {look} {thing}.
| {hero} took a {look} {thing}, and {friend} brought a {taste} {food}.
- But the sky grew dark, and it began to rain.
| Then big drops of rain began to fall.
~
- "Now we must stay inside," said {friend}. {fHe} was sad.
| They looked out of the window. It rained and rained.
- Then {hero} had an idea. "We can make {place} right here!" {he} said.
| "I know what we can do," said {hero}. "Let us play that we are at {place}!"
- They used a blanket for the sky and chairs for the trees.
| They put a green blanket on the floor and all the toys around it.
- {elder} came in, laughed, and sat down with them to eat the {food}.
| Then they sat down {spot} and ate the {food} with {elder}.
~
- When the sun came out, they did not even see it.
| In the evening the rain stopped, but they wanted to play on.
- A good idea is better than good weather.
| "I hope it rains tomorrow," said {friend}.
= the broken treasure
~
- {day}, {hero} was playing with a {look} {thing} in the house.
| {day}, {hero} and {friend} ran around in the house.
- {He} ran too fast, and {elder}'s {fragile} fell down.
| Then {he} made one wrong step and hit {elder}'s {fragile}.
- It broke into many pieces.
| Crash! It was broken.
~
- {hero} was afraid, so {he} hid the pieces {spot}.
| "Oh no," said {hero}. {He} put the pieces {spot} and told no one.
- All day long, {he} felt bad. {He} did not want to eat or play.
| But {he} could not stop thinking about it.
- In the evening, {he} went to {elder}. "I broke your {fragile}," {he} said. "I am sorry."
| At last {he} told {elder} everything and began to cry.
~
- {elder} was quiet. Then {elder} gave {him} a hug. "Thank you for telling me the truth."
| "A {fragile} is only a {fragile}," said {elder}. "I am glad that you told me."
- Together they put the {fragile} back together.
| The next day, they went to {place} and found a new {fragile}.
- {hero} felt light and happy again.
| The truth made {him} feel better.
= the thing that fell
~
- {day}, {hero} and {friend} wanted to build a {build} near {place}.
| {day}, {hero} said to {friend}, "Let us build a {build}!"
- They found wood and stones and began to work.
| They carried everything they needed to {place}.
- {hero} worked very fast and did not stop to look.
| "Faster, faster!" said {hero}.
- Then a strong wind came, and the {build} fell down.
| But when it was almost done, the {build} fell down.
~
- {hero} was angry and wanted to go home.
| {hero} sat down {spot} and said nothing.
- "Let us start again," said {friend}. "This time we will go slowly."
| "It is not so bad," said {friend}. "Now we know how to do it better."
- So {hero} held the wood while {friend} tied it with a rope.
| They worked side by side, one small step at a time.
~
- When the sun went down, the {build} stood tall and strong.
| In the evening, the {build} was ready, and it did not fall.
- {elder} came to see it. "What a fine {build}!" said {elder}.
| They put a {look} {thing} on top and were very proud.
- Slow work is good work.
| Two friends can build anything.
= the present
~
- It was almost {elder}'s birthday, and {hero} had no present.
| {hero} wanted to give {elder} something special, but {he} had no money.
- {day}, {he} went to {place} with {friend}.
| {day}, {he} asked {friend} for help, and they walked to {place}.
- They found many {treasure} and put them in a basket.
| There were {treasure} everywhere, and they picked the best ones.
~
- At home, they made a beautiful picture from the {treasure}.
| All afternoon they made a crown from the {treasure}.
- {hero} hid it {spot}, so that {elder} would not see it.
| "Where can we hide it?" asked {friend}. They put it {spot}.
~
- On the birthday, {elder} opened the present and smiled. "Did you make this?"
| When the day came, {elder} opened the present slowly. "Who made this?"
- "{friend} and I made it for you," said {hero}.
| "We made it for you," said {hero} and {friend}. "Happy birthday!"
- "It is the best present of all," said {elder}.
| {elder} cried a little, but it was a happy cry.
= the noise at night
~
- One night, {hero} could not sleep. {He} heard a noise.
| One dark night, {hero} woke up and heard something.
- {noise}. It came from somewhere near.
| {noise}, it went. {noise}.
- {He} pulled the blanket over {his} head. Maybe it was a monster!
| "Is it a monster?" thought {hero}. {He} did not dare to move.
~
- Then {he} thought, "I can be brave. I will go and look."
| But {hero} wanted to know what it was, so {he} got up.
- {He} took a lamp and called {elder}. Together they looked {spot}.
| {He} took a {look} {thing} in one hand and {elder} by the other. They looked {spot}.
- There sat a {coat} {animal}, eating a {food}!
| It was only a {coat} {animal} that was looking for food.
~
- "You are not a monster," said {hero}, and they both laughed.
| {hero} laughed. "You were more afraid than I was," {he} told the {animal}.
- They gave it a {taste} {food} and opened the door.
| In the morning {he} told {friend} about it, and {friend} laughed too.
- After that, {hero} was never afraid of a noise again.
| Things are not so scary when you look at them.
= the seed
~
- {day}, {elder} gave {hero} a tiny seed.
| {day}, {hero} found a tiny seed near {place}.
- "Put it in the ground and give it water," said {elder}. "Then wait."
| {hero} put it in the ground and gave it some water.
- The first day, nothing happened. The next day, nothing happened.
| {hero} waited one week, then two weeks. Nothing happened.
~
- "Nothing will ever grow there," said {friend}.
| {friend} laughed. "You are giving water to the mud," {fhe} said.
- But {hero} did not give up. {He} gave it water every day.
| {hero} said nothing and brought more water.
- Then, one morning, {he} saw a small green leaf.
| One day, something green came out of the ground.
~
- By the end of summer, it was a tall {plant}.
| It grew and grew until it was a big, beautiful {plant}.
- "I was wrong," said {friend}. "It is wonderful."
| {friend} came every day to sit next to the {plant}.
- Good things take time.
| {hero} gave {friend} a seed too, and {fhe} planted it near {place}.
= the way home
~
- {day}, {hero} followed a {coat} {animal} into the woods near {place}.
| {day}, {hero} went to look for {treasure} near {place}.
- {He} walked and walked and did not look back.
| {He} went on and on, and the trees grew taller.
- When {he} turned around, {he} could not see the path.
| Then {he} stopped. Nothing looked the same.
- It was getting dark. "How will I get home?" asked {hero}.
| "I am lost," said {hero}, and {his} voice was very small.
~
- {He} sat down {spot} and remembered what {elder} had said. "If you are lost, stay calm and listen."
| "First I must be calm," {he} thought. "Then I must listen."
- So {hero} listened. Far away, {he} heard {sound}.
| It was quiet. Then {he} heard {sound}, far away.
- {He} walked toward the sound, step by step, until {he} saw a light.
| {He} knew that sound! {He} followed it all the way to the road.
~
- {elder} and {friend} were waiting at the door.
| {friend} came running with a lamp. "There you are!" {fhe} said.
- They ate a {taste} {food}, and {hero} told them everything.
| {elder} gave {him} a {taste} {food} and a warm blanket.
- If you are calm, you can find the way.
| Next time, {hero} took {friend} along.
= the race
~
- {hero} could run fast, and {he} told everyone about it.
| No one near {home} could run as fast as {hero}, and {he} knew it.
- {day}, {friend} said, "Let us race to {place}."
| {day}, {hero} said to {friend}, "Race me to {place}. You will lose!"
- {hero} laughed, because {friend} was very slow.
| Everyone came to see the race. {elder} came too.
~
- One, two, three, go! {hero} was soon far ahead.
| {hero} ran off, and soon {he} could not see {friend} any more.
- "I have so much time," {he} thought. {He} sat down {spot} to eat a {food}.
| {He} stopped to pick {treasure}. Then {he} lay down {spot} for a little while.
- The sun was warm, and {hero} fell asleep.
| {He} closed {his} eyes, only for a moment.
- But {friend} did not stop. {fHe} went on, step by step.
| {friend} was tired, but {fhe} did not stop once.
~
- When {hero} woke up, {friend} was already there.
| {hero} woke up and ran as fast as {he} could, but it was too late. {friend} had won.
- "Well done," said {hero}. "You never stopped."
| "I am sorry that I laughed," said {hero}. {friend} gave {him} a {food}.
- Slow and steady wins the race.
| After that, they always walked to {place} together.
"""


def _paragraphs(text: str) -> Plot:
    """The plot of lines as described above; a first paragraph without its `~` joins the opening."""
    paragraphs: list[list[list[str]]] = [[]]
    for line in text.strip().splitlines():
        mark, sentence = line[0], line[2:]
        if mark == "~":
            paragraphs.append([])
        elif mark == "-":
            paragraphs[-1].append([sentence])
        else:
            paragraphs[-1][-1].append(sentence)
    return tuple(tuple(map(tuple, beats)) for beats in paragraphs)


def _with_frame(plot: str) -> Plot:
    (opening,), (closing,) = _paragraphs(_OPENING), _paragraphs(_CLOSING)
    first, *middle, last = _paragraphs(plot.partition("\n")[2])
    return (opening + first, *middle, last + closing)


PLOTS: tuple[Plot, ...] = tuple(map(_with_frame, _PLOTS.split("\n= ")[1:]))
